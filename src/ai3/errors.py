"""What can be wrong with a request to swap algorithms."""

from collections.abc import Iterable
from difflib import get_close_matches


class SelectionError(ValueError):
    """A selector names no known operation or algorithm, or does not fit the network."""


class UnsupportedAlgorithmError(ValueError):
    """Algorithms were chosen for layers that they cannot do; `refusals` lists every one."""

    def __init__(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        self.refusals = list(refusals)
        lines = [
            f"  {layer or 'the module'}: '{algo}': {why}" for layer, algo, why in self.refusals
        ]
        super().__init__(
            "the chosen algorithm cannot do these layers:\n"
            + "\n".join(lines)
            + "\nchoose others, or name one to use instead with unsupported='default'"
        )


class UnsupportedCallableError(ValueError):
    """The network has operations that the framework does not; `callables` lists every one."""

    def __init__(self, callables: Iterable[tuple[str, str]]) -> None:
        self.callables = list(callables)
        lines = [f"  {place}: {what}" for place, what in self.callables]
        super().__init__(
            "these operations are not supported:\n"
            + "\n".join(lines)
            + "\nreplace them, or let torch run them inside the model with unsupported='torch'"
        )


class UntraceableError(ValueError):
    """The network's graph cannot be found."""


class SampleError(ValueError):
    """An input of the sample's shape does not go through the network."""

    def __init__(self, shape: Iterable[object], reason: object) -> None:
        super().__init__(
            f"an input of sample_input_shape {tuple(shape)} does not go through the network: "
            f"{reason}"
        )


class FileError(ValueError):
    """A file is no model that `Model.save` wrote, or is damaged."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} cannot be loaded: {reason}")


class PlanError(ValueError):
    """A plan is no file that `Plan.save` wrote, or is for another network."""


class BudgetError(ValueError):
    """No choice of algorithms keeps within a budget."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> SelectionError:
    """The error for a name that is none of `valid`, with the nearest one suggested."""
    valid = list(valid)
    hint = near(name, valid) or "."
    return SelectionError(f"{kind}: {name!r} is unknown{hint} Valid: {', '.join(map(repr, valid))}")


def near(name: object, valid: Iterable[str]) -> str:
    """What follows an unknown name: a question for the nearest one, or nothing."""
    found = get_close_matches(str(name), valid, n=1)
    return f", did you mean {found[0]!r}?" if found else ""


class CompileError(ValueError):
    """A C++ file that does not become an algorithm; `path` is the file's, None where there is no
    compiler."""

    def __init__(self, path: object, reason: str) -> None:
        self.path = path
        super().__init__(reason if path is None else f"{path} is no algorithm: {reason}")


class WrongResultError(AssertionError):
    """A case that an algorithm gets wrong; `kind` says in few words how."""

    def __init__(self, op: str, algorithm: str, kind: str, why: str) -> None:
        self.kind = kind
        super().__init__(f"{algorithm!r} of {op} {kind}: {why}")
