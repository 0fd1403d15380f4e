"""How the user says which algorithm each module gets."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from ai3 import platforms
from ai3.errors import SelectionError, unknown_name
from ai3.ops import ALGORITHMS_OF, ON_CPU

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
"""The operations whose gradients have algorithms too."""


@dataclass(frozen=True)
class Conv2dAlgorithms:
    """What a selector gives for a convolution whose gradients are to be computed by algorithms of
    their own: names of "conv2d", "conv2d_grad_input" and "conv2d_grad_weight"."""

    forward: str = "default"
    grad_input: str = "default"
    grad_weight: str = "default"

    def __str__(self) -> str:
        return f"{self.forward}, gradients {self.grad_input}, {self.grad_weight}"


Choice: TypeAlias = str | Conv2dAlgorithms
AlgorithmicSelector: TypeAlias = (
    Choice | Sequence[Choice] | Mapping[str, Choice] | Callable[..., Choice]
)
"""The object that selects the algorithm of each module of one operation. For convolutions a
`Conv2dAlgorithms` may stand wherever a name may.

- `str`: the algorithm of all of them.
- `Sequence[str]`: one for each, in the order in which a forward pass meets them; a module used
  twice counts once.
- `Mapping[str, str]`: from the module's fully qualified name, or a glob such as `"features.*"`, to
  the algorithm. An exact name wins over globs, an earlier glob over a later one; `"*"` is the rest,
  which is "default" where it is not given.
- a function of `(module)` or `(module, input_shape)`, where `input_shape` is the shape of the
  module's input under the sample input shape, batched or not as the sample was.
"""


@dataclass(frozen=True)
class Candidate:
    """A module, or the call of a function, that gets an algorithm."""

    name: str
    module: Any
    input_shape: tuple[int, ...] | None = None


def needs_order(selector: AlgorithmicSelector | None) -> bool:
    return isinstance(selector, Sequence) and not isinstance(selector, str)


def needs_shapes(selector: AlgorithmicSelector | None) -> bool:
    return callable(selector) and _takes_shape(selector)


def select(
    op: str, selector: AlgorithmicSelector | None, candidates: Sequence[Candidate]
) -> list[Choice]:
    """The algorithm of each candidate. Raises SelectionError."""
    if selector is None:
        return ["default"] * len(candidates)
    if isinstance(selector, str | Conv2dAlgorithms):
        return [check_algorithm(op, selector)] * len(candidates)
    if isinstance(selector, Mapping):
        return _by_name(op, selector, candidates)
    if isinstance(selector, Sequence):
        return _by_order(op, selector, candidates)
    if callable(selector):
        return [_by_function(op, selector, candidate) for candidate in candidates]
    raise SelectionError(
        f"the selector of {op} must be a string, a sequence of strings, a mapping from names or a "
        f"function, not {type(selector).__name__}"
    )


def reason(selector: AlgorithmicSelector | None, candidate: Candidate, position: int) -> str:
    """Why a candidate has the algorithm that `select` gave it."""
    if selector is None:
        return "nothing was chosen"
    if isinstance(selector, str | Conv2dAlgorithms):
        return "chosen for all"
    if isinstance(selector, Mapping):
        pattern = _pattern(selector, candidate.name)
        return "not in the mapping" if pattern is None else f"chosen for {pattern!r}"
    if isinstance(selector, Sequence):
        return f"number {position} of the sequence"
    return f"chosen by {getattr(selector, '__name__', type(selector).__name__)}"


def check_algorithm(op: str, name: Any, where: str = "") -> Any:
    if isinstance(name, Conv2dAlgorithms) and op in CONVOLUTIONS:
        check_algorithm(op, name.forward, where)
        check_algorithm("conv2d_grad_input", name.grad_input, where)
        check_algorithm("conv2d_grad_weight", name.grad_weight, where)
        return name
    of = ALGORITHMS_OF.get(op, op)
    if isinstance(name, str) and (name in ON_CPU[of] or name in platforms.supported()[of]):
        return name
    raise unknown_name(f"algorithm of {op}{where}", name, platforms.supported()[of])


def check_operations(names: Iterable[object]) -> None:
    for name in names:
        if name not in ON_CPU and name not in ALGORITHMS_OF:
            raise unknown_name("operation", name, [*ON_CPU, *ALGORITHMS_OF])


def _by_order(op: str, names: Sequence[Choice], candidates: Sequence[Candidate]) -> list[Choice]:
    if len(names) != len(candidates):
        met = ", ".join(candidate.name or "the module" for candidate in candidates) or "none"
        raise SelectionError(
            f"{len(names)} algorithms were given for {len(candidates)} {op} modules: {met}"
        )
    return [
        check_algorithm(op, name, f" for {candidate.name}")
        for name, candidate in zip(names, candidates, strict=True)
    ]


def _by_name(op: str, table: Mapping[str, Choice], candidates: Sequence[Candidate]) -> list[Choice]:
    for pattern, name in table.items():
        check_algorithm(op, name, f" for {pattern!r}")
        if not any(fnmatchcase(candidate.name, pattern) for candidate in candidates):
            names = ", ".join(repr(candidate.name) for candidate in candidates)
            if pattern != "*":
                raise SelectionError(f"no {op} module is named {pattern!r}; there are {names}")
    found = [_pattern(table, candidate.name) for candidate in candidates]
    return ["default" if pattern is None else table[pattern] for pattern in found]


def _pattern(table: Mapping[str, Choice], name: str) -> str | None:
    """The table's key that stands for the name: the name itself, a glob, or "*" last."""
    if name in table:
        return name
    globs = [pattern for pattern in table if pattern != "*"] + ["*"] * ("*" in table)
    return next((glob for glob in globs if fnmatchcase(name, glob)), None)


def _by_function(op: str, function: Callable[..., Choice], candidate: Candidate) -> Choice:
    if not _takes_shape(function):
        name = function(candidate.module)
    elif candidate.input_shape is not None:
        name = function(candidate.module, candidate.input_shape)
    elif _needs_shape(function):
        raise SelectionError(
            f"the selector of {op} takes the shape of each module's input: give sample_input_shape"
        )
    else:
        name = function(candidate.module)
    if not isinstance(name, str | Conv2dAlgorithms):
        raise SelectionError(
            f"the selector of {op} must return an algorithm's name, but for "
            f"{candidate.name or 'the module'} it returned {name!r}"
        )
    check_algorithm(op, name, f" for {candidate.name}")
    return name


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _takes_shape(function: Callable[..., Any]) -> bool:
    return len(_positional(function)) > 1


def _needs_shape(function: Callable[..., Any]) -> bool:
    required = [p for p in _positional(function) if p.default is inspect.Parameter.empty]
    return len(required) > 1
