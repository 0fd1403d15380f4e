"""Algorithms that come while the program runs: classes and functions of the user's."""

import inspect
import os
import runpy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from ai3 import _core, compiled
from ai3.errors import unknown_name
from ai3.ops import LAYOUTS, ON_CPU
from ai3.problem import Problem

A = TypeVar("A")

ARRAYS = ("numpy", "torch")

GRADIENTS = {"grad_input": "conv2d_grad_input", "grad_weight": "conv2d_grad_weight"}
"""What an algorithm of conv2d may bring for training, and the operations that these are."""


@dataclass(frozen=True)
class Registered:
    """What an algorithm that was added is made by, and where that comes from."""

    maker: Any
    origin: str


REGISTERED: dict[tuple[str, str], Registered] = {}
"""By operation and name."""


def algorithm(op: str, name: str, *, arrays: str = "numpy") -> Callable[[A], A]:
    """Decorate what computes an operation, a class or a function, to be an algorithm of it that
    can be chosen by name wherever a built-in one can.

    A class is made once, without arguments. It has

    - `plan(problem, weights)`: gives `run(inputs, output, workspace)`, which writes the whole
      output. What depends on the weights alone is done here; None stands for an absent bias.
    - `refusal(problem)`, if it cannot do everything: None or "", or why it cannot, as a clause.
    - `workspace_bytes(problem)`, if it needs memory: of an array of uint8, whose content is
      whatever it was.
    - `cost(problem)`, if "default" may choose it: estimated cycles; it is chosen where that is
      less than all others estimate.
    - `layouts`, if it takes images otherwise than dense too: "channels_last", "blocked" or both.
      A `Model` is planned in what costs least, and the problem tells what an image lies in. One
      with its channels last is an array (N, C, H, W) with strides; one in blocks is
      (N, blocks, H, W, B), whose last block is filled up with what is finite.
    - `platform`, if it is for tensors on another one's devices: its name, one of `ai3.platforms()`.
      Arrays are then torch's, `problem.device` tells where they are, and the same name may stand
      for other algorithms elsewhere.
    - `grad_input(problem, weights)` and `grad_weight(problem, weights)`, for conv2d: plans of the
      gradients, problems of "conv2d_grad_input" (of the output's gradient) and
      "conv2d_grad_weight" (of the input and the output's gradient); built-in ones otherwise.

    A function takes `(problem, *inputs, *weights, output)`.

    Arrays are views of the network's memory, dense and row-major but for `layouts`, and valid
    during the call: all but output and workspace are only to be read. `run` is called from whatever
    thread the network is, one at a time. The same name again takes the earlier one's place in
    networks that are planned later.

    Args:
        op: the operation, a name in `SUPPORTED_ALGORITHMS`. That of 1- and 3-dimensional
            convolutions is the one of images.
        name: of the algorithm; names of built-in ones are taken.
        arrays: what arrays are: "numpy", or "torch" tensors.

    Raises:
        ValueError: an operation, layout or platform that there is not, or a name that is taken.
        TypeError: a class without `plan`, or what is no class or function.
    """
    if op not in ON_CPU:
        raise unknown_name("operation", op, ON_CPU)
    if arrays not in ARRAYS:
        raise unknown_name("kind of arrays", arrays, ARRAYS)
    if not isinstance(name, str) or not name:
        raise TypeError(f"an algorithm's name is a text, not {name!r}")

    def register(maker: A) -> A:
        made: Any = maker
        if (platform := getattr(maker, "platform", "cpu")) != "cpu":
            _add_to_platform(platform, op, name, arrays, maker)
            return maker
        layouts = layouts_of(maker)
        _core.add_algorithm(op, name, arrays == "torch", layouts, answers_of(made))
        REGISTERED[op, name] = Registered(maker, _origin(maker))
        for method, gradient in GRADIENTS.items():
            if op == "conv2d" and hasattr(maker, method):
                own = answers_of(made, method)
                _core.add_algorithm(gradient, name, arrays == "torch", [], own)
                REGISTERED[gradient, name] = Registered(maker, _origin(maker))
        _refresh()
        return maker

    return register


def load_algorithm(path: "str | PathLike[str]", op: str, name: str | None = None) -> str:
    """Compile a C++ file and add what it computes as an algorithm of an operation.

    The file holds the function that `custom/<op>.hpp` declares, in namespace ai3::custom, for the
    operation `op`; it may include all headers in `include_dir()`. What was compiled of the same
    text, headers, compiler and instruction set level is kept in the user's cache, or in the folder
    that the environment variable AI3_CACHE_DIR names. The function may throw what derives from
    std::exception: that arrives as a RuntimeError.

    Args:
        path: the file's.
        op: the operation: one that has a header in `custom`.
        name: of the algorithm; the file's name without its ending by default.

    Returns:
        The algorithm's name.

    Raises:
        ai3.errors.CompileError: a file that the compiler refuses, with what it said of the file's
            own lines first; no compiler.
        ValueError: an operation that has no such header, or a name that is taken.
        OSError: a file that cannot be read.
    """
    file = Path(path)
    name = file.stem if name is None else name
    _core.load_algorithm(op, name, str(compiled.library_of(file, op)))
    REGISTERED[op, name] = Registered(file, str(file.resolve()))
    _refresh()
    return name


def remove_algorithm(op: str, name: str) -> None:
    """Take back what `algorithm` added, on all platforms. Networks that were planned with it keep
    it.

    Raises ValueError where no such algorithm was added.
    """
    from ai3.platforms import registered

    elsewhere = [each for each in registered() if each.has_brought(op, name)]
    for platform in elsewhere:
        platform.remove_brought(op, name)
    if (op, name) not in REGISTERED:
        if not elsewhere:
            raise ValueError(f"no algorithm {name!r} of {op} was added")
        return
    maker = REGISTERED[op, name].maker
    for key, other in list(REGISTERED.items()):
        if key == (op, name) or (op == "conv2d" and other.maker is maker and key[1] == name):
            _core.remove_algorithm(*key)
            del REGISTERED[key]
    _refresh()


def has_own(op: str) -> bool:
    """Whether an operation has algorithms that are not ai3's, which "default" may stand for."""
    return "custom" in ON_CPU[op] or any(of == op for of, _ in REGISTERED)


def load_installed() -> None:
    """Add what the environment variable AI3_ALGORITHMS names, paths of C++ and Python files, and
    what packages bring by the entry point group "ai3.algorithms". What fails is warned of."""
    for path in filter(None, os.environ.get("AI3_ALGORITHMS", "").split(os.pathsep)):
        _tried(path, partial(load_file, Path(path)))
    for point in metadata.entry_points(group="ai3.algorithms"):
        _tried(f"{point.name} of {point.value}", point.load)


def _tried(what: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except Exception as error:
        warnings.warn(
            f"the algorithms of {what} were not loaded: {error!r}", RuntimeWarning, stacklevel=2
        )


def load_file(path: Path) -> None:
    """Add the algorithms of a Python file, which is run, or of a C++ file with functions of one or
    more operations."""
    if path.suffix == ".py":
        runpy.run_path(str(path))
        return
    ops = compiled.operations_in(path)
    if not ops:
        raise ValueError(f"it has no function of {', '.join(compiled.operations())}")
    for op in ops:
        load_algorithm(path, op)


def _add_to_platform(platform: str, op: str, name: str, arrays: str, maker: Any) -> None:
    from ai3.platforms import add_algorithm

    if arrays != "torch":
        raise ValueError(f"arrays on {platform} are torch's: say arrays='torch'")
    add_algorithm(platform, op, name, maker)


def layouts_of(maker: Any) -> list[str]:
    """Those that it takes beside dense ones."""
    layouts = list(getattr(maker, "layouts", ()))
    for layout in layouts:
        if layout not in LAYOUTS:
            raise unknown_name(f"layout of {maker.__name__}", layout, LAYOUTS)
    return layouts


def _refresh() -> None:
    from ai3.platforms import names_changed  # which asks this module

    ON_CPU.update(_core.algorithms())
    names_changed()


def _origin(maker: Any) -> str:
    try:
        return f"{inspect.getsourcefile(maker)}:{inspect.getsourcelines(maker)[1]}"
    except (OSError, TypeError):
        return str(getattr(maker, "__module__", "?"))


def answers_of(maker: Any, plan: str = "plan") -> "_ByClass | _ByFunction":
    """What a class or function of the user's answers to what an algorithm is asked, of a problem
    or of what the core describes one by. `plan` is the method that makes plans."""
    return _ByClass(maker, plan) if inspect.isclass(maker) else _ByFunction(maker)


Asked = Problem | tuple[Any, ...]


def _problem(asked: Asked) -> Problem:
    return asked if isinstance(asked, Problem) else Problem(asked)


class _ByClass:
    """By an object of the class."""

    def __init__(self, kind: Any, plan: str = "plan") -> None:
        if not callable(getattr(kind, plan, None)):
            raise TypeError(
                f"the class {kind.__qualname__} needs a method plan(self, problem, weights) that "
                "gives run(inputs, output, workspace)"
            )
        self._of = kind()
        self._plan = plan

    def refusal(self, asked: Asked) -> str:
        ask = getattr(self._of, "refusal", None)
        return str((ask and ask(_problem(asked))) or "")

    def workspace_bytes(self, asked: Asked) -> int:
        ask = getattr(self._of, "workspace_bytes", None)
        return int(ask(_problem(asked))) if ask else 0

    @property
    def cost(self) -> Callable[[Asked], float] | None:
        """None where it has no estimate."""
        ask = getattr(self._of, "cost", None)
        if ask is None or self._plan != "plan":
            return None
        return lambda asked: float(ask(_problem(asked)))

    def plan(self, asked: Asked, weights: list[Any]) -> Callable[..., Any]:
        problem = _problem(asked)
        run = getattr(self._of, self._plan)(problem, weights)
        if not callable(run):
            raise TypeError(
                f"{type(self._of).__qualname__}.{self._plan} must give a function of inputs, "
                f"output and workspace, not {type(run).__name__}"
            )
        made: Callable[..., Any] = run
        return made


class _ByFunction:
    def __init__(self, function: Any) -> None:
        if not callable(function):
            raise TypeError(f"an algorithm is a class or a function, not {function!r}")
        self._function = function

    def refusal(self, asked: Asked) -> str:
        return ""

    def workspace_bytes(self, asked: Asked) -> int:
        return 0

    cost = None

    def plan(self, asked: Asked, weights: list[Any]) -> Callable[..., Any]:
        problem, function = _problem(asked), self._function

        def run(inputs: list[Any], output: Any, workspace: Any) -> None:
            function(problem, *inputs, *weights, output)

        return run
