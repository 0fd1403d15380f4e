"""Programs of the operation `pointwise` by torch's functions."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ai3.graph.program import parse


def _tensor(x: Any, like: Tensor) -> Tensor:
    """A number filled in on the device: a copy from the host cannot be a part of a CUDA graph."""
    return x if isinstance(x, Tensor) else torch.full((), x, device=like.device)


def _whole(x: Any) -> bool:
    return isinstance(x, int) or (isinstance(x, Tensor) and not x.is_floating_point())


def _divided(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of integers divided by 0 it is 0."""

    def run(x: Any, y: Any) -> Any:
        if not (_whole(x) and _whole(y)):
            return function(x, y)
        like = x if isinstance(x, Tensor) else y
        divisor = _tensor(y, like)
        found = function(x, divisor.masked_fill(divisor == 0, 1))
        return torch.where(divisor == 0, torch.zeros_like(found), found)

    return run


def _shifted(function: Callable[..., Any], beyond: Callable[[Any], Any]) -> Callable[..., Any]:
    """A shift by more bits than there are gives what is `beyond`."""

    def run(x: Any, y: Any) -> Any:
        like = x if isinstance(x, Tensor) else y
        x, y = _tensor(x, like), _tensor(y, like)
        far = (y < 0) | (y > 63)
        found = function(x, y.masked_fill(far, 0))
        return torch.where(far, beyond(x).to(found.dtype), found)

    return run


def _power(x: Any, y: Any) -> Any:
    if not (_whole(x) and _whole(y)):
        return torch.pow(x, y)
    dtype = torch.result_type(x, y)
    like = x if isinstance(x, Tensor) else y
    x, y = _tensor(x, like).to(dtype), _tensor(y, like).to(dtype)
    odd = torch.where(y % 2 == 0, x * x, x)
    small = torch.where(x.abs() == 1, odd, torch.zeros_like(x))
    return torch.where(y < 0, small, torch.pow(x, y.clamp(min=0)))


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of floating-point numbers, integers first made such."""
    return lambda x, *more: function(x if x.is_floating_point() else x.float(), *more)


_SAME_NAME = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf"),
    *("erfc", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2", "neg", "round"),
    *("reciprocal", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"),
    *("trunc", "isfinite", "isinf", "isnan", "bitwise_not", "logical_not", "relu"),
)
_OF_TWO = (
    *("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum"),
    *("atan2", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or"),
    "logical_xor",
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in (*_SAME_NAME, *_OF_TWO)},
    "relu6": _real(functional.relu6),
    "silu": _real(functional.silu),
    "hardswish": _real(functional.hardswish),
    "hardsigmoid": _real(functional.hardsigmoid),
    "gelu": _real(functional.gelu),
    "gelu_tanh": _real(lambda x: functional.gelu(x, approximate="tanh")),
    "leaky_relu": _real(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "elu": _real(lambda x, alpha: torch.where(x < 0, alpha * torch.expm1(x), x)),
    "floor_divide": _divided(torch.floor_divide),
    "remainder": _divided(torch.remainder),
    "fmod": _divided(torch.fmod),
    "pow": _power,
    "bitwise_left_shift": _shifted(torch.bitwise_left_shift, torch.zeros_like),
    "bitwise_right_shift": _shifted(torch.bitwise_right_shift, lambda x: -(x < 0).to(torch.int64)),
    "where": lambda condition, x, y: torch.where(condition.bool(), x, y),
}
"""By the core's name, with its operands."""


def run_program(text: str, inputs: Sequence[Tensor]) -> Tensor:
    """The result of a program's last instruction. Types are promoted as torch does."""
    *_, (_, _, result) = steps(text, inputs)
    return result


def steps(text: str, inputs: Sequence[Tensor]) -> Iterator[tuple[str, list[Any], Tensor]]:
    """Of each instruction of a program the function, what it gets, and its result."""
    results: list[Tensor] = []
    for function, operands in parsed(text):
        given = [
            value if kind == "number" else (inputs if kind == "x" else results)[value]
            for kind, value in operands
        ]
        results.append(_tensor(_apply(function, list(given), inputs), inputs[0]))
        yield function, given, results[-1]


def _apply(function: str, given: list[Any], inputs: Sequence[Tensor]) -> Any:
    dtype = getattr(torch, function, None)
    if isinstance(dtype, torch.dtype):
        x = _tensor(given[0], inputs[0])
        return x.to(_STORED.get(inputs[0].dtype, dtype) if dtype is torch.float32 else dtype)
    if not isinstance(given[0], Tensor):
        # A number of its own dtype, that torch's functions take in the first place as a tensor
        # without dimensions alone; such promote as numbers do.
        given[0] = _tensor(given[0], inputs[0])
    if function == "sub" and isinstance(given[1], bool):
        given[1] = int(given[1])
    if function in _TENSORS_IN_BOTH and not isinstance(given[1], Tensor):
        given[1] = _tensor(given[1], inputs[0])
    return FUNCTIONS[function](*given)


_TENSORS_IN_BOTH = frozenset(
    {"maximum", "minimum", "atan2", "logical_and", "logical_or", "logical_xor"}
)

_STORED = {torch.float16: torch.float16, torch.bfloat16: torch.bfloat16}
"""What values of float32 are held in where the inputs are of these."""


@lru_cache(maxsize=1024)
def parsed(text: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """The instructions: a function and its operands, each an input "x" or a result "t" by its
    number, or a "number"."""
    return [(function, [_operand(word) for word in words]) for function, words in parse(text)]


def _operand(word: str) -> tuple[str, Any]:
    if word[0] in "xt" and word[1:].isdigit():
        return word[0], int(word[1:])
    if word in ("True", "False"):
        return "number", word == "True"
    try:
        return "number", int(word)
    except ValueError:
        return "number", float(word)
