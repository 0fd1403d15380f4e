"""What a platform is: a type of torch's devices, and the algorithms that run there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import isclass
from itertools import pairwise
from math import inf, isfinite
from time import perf_counter
from typing import Any, ClassVar, TypeAlias

from ai3.algorithms import GRADIENTS, answers_of, layouts_of
from ai3.problem import Problem

Run: TypeAlias = Callable[[Sequence[Any], Any, Any], Any]
"""Of inputs, output and workspace: writes the whole output, on the stream that torch has now; that
of an algorithm that `allocates` gets no output and gives it back. One that has packed something of
the weights has a method `refresh()`, which packs it again."""

Replayed: TypeAlias = Callable[[Sequence[Any]], list[Any]]
"""Of a network's inputs, its outputs."""


CHOOSING = ("default", "guess")
"""Names that stand for the first of a platform's ranking, where none of its algorithms has them."""


class Algorithm:
    """Computes one operation on the tensors of a platform's devices.

    Problems of convolutions are batched and, where `pads` does not say otherwise, padded by zeros
    alike on both sides: borders of other kinds are made before.
    """

    name: str
    layouts: frozenset[str] = frozenset()
    """Those of images, beside "dense", in which it takes and gives them; all inputs and the output
    have the same."""

    allocates: ClassVar[bool] = False
    """Whether its results are in memory of its own making."""
    made_of_elements: bool = False
    """Whether its plans are to be made again when torch counts a change of the weights."""

    def refusal(self, problem: Problem) -> str:
        """Why it cannot do the problem, as a clause; empty where it can."""
        return ""

    def probe(self, problem: Problem) -> str:
        """The same where the device has to be asked, for what is not refused and whose shapes are
        those that will come."""
        return ""

    def takes(self, problem: Problem) -> bool:
        """Whether it takes images in the layout that they have there."""
        return problem.output_layout in self.layouts

    def workspace_bytes(self, problem: Problem) -> int:
        """At most the problem's `memory` where it has a choice."""
        return 0

    def cost(self, problem: Problem) -> float:
        """In any unit that the platform's algorithms of the operation share; infinite where
        "default" is not to choose it."""
        return inf

    def stands_for(self, problem: Problem) -> str:
        """What it is by a more exact name, where it has several ways."""
        return self.name

    def fuses(self, problem: Problem) -> bool:
        """Whether its plan adds the second input and applies the activation of the problem."""
        return False

    def pads(self, problem: Problem) -> bool:
        """Whether its plan makes borders that are no zeros, or differ from side to side."""
        return False

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        """What computes it with these weights, whose elements may change between runs."""
        raise NotImplementedError


def too_much(needed: int, memory: int) -> str:
    """Why a workspace is refused, as a clause."""
    return f"it needs {needed} bytes of workspace, and {memory} are allowed"


class Stopwatch:
    """The time between marks. On devices that run behind, each waits for all before it."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait, self._times = wait, list[float]()

    def mark(self) -> None:
        self._wait()
        self._times.append(perf_counter())

    def intervals(self) -> list[float]:
        """ms from each mark to the next."""
        return [1e3 * (b - a) for a, b in pairwise(self._times)]


class Platform(ABC):
    """See the module. One object, made when the platform's folder is imported, which imports
    neither torch nor any library of the platform's."""

    name: ClassVar[str]
    device: ClassVar[str]
    """torch's type of the devices."""

    alignment: ClassVar[int] = 1
    """Bytes of which the addresses of tensors are to be multiples."""

    def __init__(self) -> None:
        self._own: dict[str, dict[str, Algorithm]] | None = None
        self._brought: dict[str, dict[str, Algorithm]] = {}

    @abstractmethod
    def missing(self) -> str:
        """Why nothing can run there now, as a clause; empty where it can."""

    @abstractmethod
    def make_algorithms(self) -> Mapping[str, Sequence[Algorithm]]:
        """The platform's own, by operation. Called once, whether it is there or not."""

    def libraries(self) -> Mapping[str, str]:
        """Of each of its libraries, by name, why it cannot be used; empty where it can."""
        return {}

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        """Within which torch's current device is this one."""
        return nullcontext()

    def is_current(self, device: Any) -> bool:
        return True

    def settings(self) -> Any:
        """Those of torch's for which plans are made."""
        return None

    def image_layout(self, dtype: str) -> str:
        """That in which whole networks hold images of a dtype, "dense" or "channels_last"."""
        return "dense"

    def synchronize(self, device: Any) -> None:  # noqa: B027
        """Wait for what was asked of the device."""

    def stopwatch(self, device: Any) -> "Stopwatch":
        return Stopwatch(lambda: self.synchronize(device))

    def replayable(self, run: Replayed, inputs: Sequence[Any]) -> Replayed:
        """What does the same again for other tensors like these, with less work of the CPU's."""
        return run

    def name_of(self, device: Any = None) -> str:
        """The model of a device, or of the current one, on which measured times depend."""
        return self.device

    def elementwise(self, program: str, inputs: Sequence[Any], output: Any = None) -> Any:
        """The result of a program of `pointwise` by one kernel, in the memory of `output` where
        that is given; None where the platform has no kernel for it."""
        return None

    def version(self) -> str:
        """Of the libraries, on which measured times depend."""
        return ""

    def algorithms(self, op: str) -> Mapping[str, Algorithm]:
        """By name."""
        if self._own is None:
            made = self.make_algorithms()
            self._own = {of: {each.name: each for each in found} for of, found in made.items()}
        return {**self._own.get(op, {}), **self._brought.get(op, {})}

    def operations(self) -> list[str]:
        """Those that it has algorithms of."""
        self.algorithms("")
        return list(dict.fromkeys([*(self._own or ()), *self._brought]))

    def ranking(self, problem: Problem) -> list[tuple[str, float]]:
        """The algorithms that can do the problem and have a cost, the least first."""
        found = []
        for name, algorithm in self.algorithms(problem.op).items():
            if isfinite(cost := algorithm.cost(problem)) and not algorithm.refusal(problem):
                found.append((name, cost))
        return sorted(found, key=lambda pair: pair[1])

    def add_brought(self, op: str, name: str, maker: Any) -> None:
        if name in CHOOSING or (name in self.algorithms(op) and not self.has_brought(op, name)):
            raise ValueError(f"{self.name} has an algorithm {name!r} of {op} of its own")
        for method, of in {"plan": op, **(GRADIENTS if op == "conv2d" else {})}.items():
            if method == "plan" or hasattr(maker, method):
                self._brought.setdefault(of, {})[name] = _Brought(name, maker, method)

    def has_brought(self, op: str, name: str) -> bool:
        return name in self._brought.get(op, {})

    def remove_brought(self, op: str, name: str) -> None:
        if not self.has_brought(op, name):
            raise ValueError(f"no algorithm {name!r} of {op} was added to {self.name}")
        for of in (op, *(GRADIENTS.values() if op == "conv2d" else ())):
            self._brought.get(of, {}).pop(name, None)


class _Brought(Algorithm):
    """A class or function of the user's."""

    def __init__(self, name: str, maker: Any, method: str) -> None:
        self.name = name
        self._answers = answers_of(maker, method)
        self.layouts = frozenset(layouts_of(maker))
        self.made_of_elements = isclass(maker)

    def refusal(self, problem: Problem) -> str:
        return self._answers.refusal(problem)

    def workspace_bytes(self, problem: Problem) -> int:
        return self._answers.workspace_bytes(problem)

    def cost(self, problem: Problem) -> float:
        return inf if self._answers.cost is None else self._answers.cost(problem)

    def pads(self, problem: Problem) -> bool:
        return True

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return self._answers.plan(problem, list(weights))
