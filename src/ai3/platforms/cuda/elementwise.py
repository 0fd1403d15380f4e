"""Programs of the operation `pointwise` as one kernel each, which is written for it in Triton."""

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, prod
from typing import Any

import torch
from torch import Tensor

from ai3.platforms.cuda.launch import ALIGNMENT, DTYPES, Launch, launch
from ai3.torch.programs import parsed, steps

_BLOCK = 1024
_KEPT = 512
_MOST = 1 << 31

_REAL = {
    "div": "{0} / {1}",
    "reciprocal": "1.0 / {0}",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "1.0 / tl.sqrt({0})",
    "exp": "tl.exp({0})",
    "exp2": "tl.exp2({0})",
    "log": "tl.log({0})",
    "log2": "tl.log2({0})",
    "log10": "tl.log({0}) * 0.4342944819032518",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "tan": "tl.sin({0}) / tl.cos({0})",
    "erf": "tl.erf({0})",
    "leaky_relu": "tl.where({0} < 0, {0} * {1}, {0})",
    "elu": "tl.where({0} < 0, {1} * (tl.exp({0}) - 1.0), {0})",
    **{
        name: f'_activated({{0}}, "{name}", 0.0)'
        for name in (
            *("relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
            *("gelu", "gelu_tanh"),
        )
    },
}
_SAME = {
    "abs": "tl.abs({0})",
    "neg": "-{0}",
    "sign": "({0} > 0).to({T}) - ({0} < 0).to({T})",
    "square": "{0} * {0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
    "relu": "tl.where({0} < 0, tl.zeros_like({0}), {0})",
}
_ROUNDED = {
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "trunc": "tl.where({0} < 0, tl.ceil({0}), tl.floor({0}))",
}
_COMPARED = {
    name: f"{{0}} {sign} {{1}}"
    for name, sign in (
        *(("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")),
    )
}
_LOGIC = {
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_xor": "({0} != 0) ^ ({1} != 0)",
    "logical_not": "{0} == 0",
}
_BITS = {"bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}"}
_TESTS = {
    "isnan": "{0} != {0}",
    "isinf": "({0} - {0} != {0} - {0}) & ({0} == {0})",
    "isfinite": "{0} - {0} == {0} - {0}",
}
_POWERS = {
    2.0: "{0} * {0}",
    3.0: "{0} * {0} * {0}",
    0.5: "tl.sqrt({0})",
    -0.5: "1.0 / tl.sqrt({0})",
    -1.0: "1.0 / {0}",
}
"""Of `pow` by a number. `rsqrt` and these are what networks have."""

FUNCTIONS = {*_REAL, *_SAME, *_ROUNDED, *_COMPARED, *_LOGIC, *_BITS, *_TESTS, "where", "pow"}
"""Those that Triton has, beside the conversions; torch computes programs with others."""


def run(platform: Any, text: str, inputs: Sequence[Tensor], output: Tensor | None) -> Tensor | None:
    """The result, in the memory of the output where one is given; None where a function, a dtype or
    a shape has no kernel."""
    given = tuple((x.dtype, tuple(x.shape), x.stride()) for x in inputs)
    device = platform.current_device()
    key = (platform, text, given, device, output is not None and output.stride())
    plan = _plans.get(key)
    if plan is None:
        while len(_plans) >= _KEPT:
            _plans.pop(next(iter(_plans)))
        plan = _plans[key] = _planned(platform, text, inputs, output) or _NO_PLAN
    if plan is _NO_PLAN:
        return None
    if output is None:
        output = torch.empty_strided(
            plan.shape, plan.stride, dtype=plan.dtype, device=inputs[0].device
        )
    aligned = [x if x.data_ptr() % ALIGNMENT == 0 else _moved(x) for x in inputs]
    assert plan.launch is not None
    plan.launch(*aligned, output)
    return output


@dataclass(frozen=True)
class _Plan:
    launch: Launch | None = None
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32


_NO_PLAN = _Plan()
_plans: dict[Any, _Plan] = {}


def _moved(x: Tensor) -> Tensor:
    """A copy with the same strides."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def _planned(
    platform: Any, text: str, inputs: Sequence[Tensor], output: Tensor | None
) -> _Plan | None:
    shape = torch.broadcast_shapes(*(x.shape for x in inputs))
    count = prod(shape)
    if not 0 < count < _MOST or any(_reach(x) >= _MOST for x in inputs):
        return None
    kinds = tuple((_name(x.dtype), x.dim() > 0) for x in inputs)
    written = _written(text, kinds)
    if written is None:
        return None
    lines, dtype = written
    if output is not None:
        if output.shape != shape or output.dtype is not dtype:
            return None
        stride = output.stride()
    else:
        stride = _stride_like(inputs, shape)
    order = _order(shape, stride)
    if order is None:
        return None
    expanded = [x.expand(shape).stride() for x in inputs]
    every = [(shape[i], tuple(s[i] for s in expanded)) for i in order]
    dims = _collapsed(every) or [(1, (0,) * len(inputs))]
    kernel = _kernel(lines, len(inputs), len(dims))
    numbers = (count, *(n for n, _ in dims[1:]), *(s for _, of in dims for s in of))
    launched = launch(
        *(platform, kernel, (-(-count // _BLOCK),), [n for n, _ in kinds] + [_name(dtype)]),
        *(numbers, {"BLOCK": _BLOCK}),
    )
    return _Plan(launched, tuple(shape), tuple(stride), dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _reach(x: Tensor) -> int:
    return 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True) if n > 1)


def _stride_like(inputs: Sequence[Tensor], shape: Sequence[int]) -> tuple[int, ...]:
    """As torch lays out results: like the first input of this shape that is dense, else by rows."""
    for x in inputs:
        if x.shape == shape and _order(shape, x.stride()) is not None:
            return x.stride()
    return tuple(_dense(shape))


def _order(shape: Sequence[int], stride: Sequence[int]) -> list[int] | None:
    """The dimensions of more than one element as they lie in memory, outermost first; None where
    there is something between them."""
    order = sorted((i for i, n in enumerate(shape) if n > 1), key=lambda i: -stride[i])
    dense = _dense([shape[i] for i in order])
    return order if [stride[i] for i in order] == dense else None


def _dense(shape: Sequence[int]) -> list[int]:
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def _collapsed(dims: list[tuple[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """The dimensions, outermost first, with what every input has in one go as one."""
    made: list[tuple[int, tuple[int, ...]]] = []
    for n, strides in dims:
        if made and all(a == b * n for a, b in zip(made[-1][1], strides, strict=True)):
            made[-1] = (made[-1][0] * n, strides)
        else:
            made.append((n, strides))
    return made


@lru_cache(maxsize=1024)
def _written(
    text: str, kinds: tuple[tuple[str, bool], ...]
) -> tuple[tuple[str, ...], torch.dtype] | None:
    """The lines that compute t0, t1, ... of x0, x1, ..., and the result's dtype; None where there
    are none. Values in a half are float32 until they are stored."""
    if any(name not in DTYPES for name, _ in kinds):
        return None
    if not all(f in FUNCTIONS or f in DTYPES for f, _ in parsed(text)):
        return None
    # torch tells the dtypes; numbers without dimensions promote otherwise.
    some = [torch.ones([1] * dims, dtype=getattr(torch, name)) for name, dims in kinds]
    lines: list[str] = []
    result = torch.float32
    for i, ((function, operands), (_, given, made)) in enumerate(
        zip(parsed(text), steps(text, some), strict=True)
    ):
        formula = _formula(function, given, made.dtype)
        if formula is None:
            return None
        template, types = formula
        words = [_word(kind, value, of) for (kind, value), of in zip(operands, types, strict=True)]
        lines.append(f"t{i} = " + template.format(*words, T=_computed(made.dtype)))
        result = made.dtype
    return (*lines,), result


def _formula(
    function: str, given: Sequence[Any], made: torch.dtype
) -> tuple[str, list[torch.dtype]] | None:
    """The formula of a function, and the dtypes that its operands become."""
    many = len(given)
    if function in DTYPES:
        return "{0}", [made]
    if function == "pow":
        power = given[1]
        if not made.is_floating_point or isinstance(power, Tensor) or power not in _POWERS:
            return None
        return _POWERS[float(power)], [made, made]
    if function in _LOGIC or function in _TESTS:
        own = [_own(x) for x in given]
        if function in _TESTS and not own[0].is_floating_point:
            return ("{0} == {0}" if function == "isfinite" else "{0} != {0}"), own
        return {**_LOGIC, **_TESTS}[function], own
    if function in _COMPARED:
        common = torch.result_type(*given)
        if common is torch.bool and function not in ("eq", "ne"):
            return None
        return _COMPARED[function], [common, common]
    if function == "where":
        return "tl.where({0} != 0, {1}, {2})", [_own(given[0]), made, made]
    if function in _ROUNDED and not made.is_floating_point:
        return "{0}", [made]
    if made is torch.bool and function not in _BITS:
        return None
    return {**_REAL, **_SAME, **_ROUNDED, **_BITS}[function], [made] * many


def _own(value: Any) -> torch.dtype:
    if isinstance(value, Tensor):
        return value.dtype
    return {bool: torch.bool, int: torch.int64, float: torch.float32}[type(value)]


def _computed(dtype: torch.dtype) -> str:
    """The type, in Triton, that values of a dtype are computed with in."""
    if dtype is torch.bool:
        return "tl.int1"
    name = "float32" if dtype in (torch.float16, torch.bfloat16) else _name(dtype)
    return f"tl.{name}"


def _word(kind: str, value: Any, dtype: torch.dtype) -> str:
    to = _computed(dtype)
    if kind == "number":
        shown = repr(value) if isfinite(value) else f'float("{value}")'
        return f"tl.full((1,), {shown}, {to})"
    word = f"{kind}{value}"
    return f"({word} != 0)" if dtype is torch.bool else f"{word}.to({to})"


@lru_cache(maxsize=1024)
def _kernel(lines: tuple[str, ...], inputs: int, dims: int) -> Any:
    """The function of Triton's, for as many inputs, whose elements lie as many dimensions apart."""
    import triton
    import triton.language as tl

    from ai3.platforms.cuda.kernels import _activated

    sizes = [f"n{d}" for d in range(1, dims)]
    strides = [f"s{d}_{i}" for d in range(dims) for i in range(inputs)]
    given = [f"x{i}_" for i in range(inputs)]
    parameters = [*given, "y", "count", *sizes, *strides, "BLOCK: tl.constexpr"]
    body = [
        "at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)",
        "mask = at < count",
        "left = at",
    ]
    for d in reversed(range(1, dims)):
        body += [f"d{d} = left % n{d}", f"left = left // n{d}"]
    body.append("d0 = left")
    for i in range(inputs):
        place = " + ".join(f"d{d} * s{d}_{i}" for d in range(dims))
        body.append(f"x{i} = tl.load(x{i}_ + {place}, mask=mask, other=0)")
    body += [*lines, f"tl.store(y + at, t{len(lines) - 1}, mask=mask)"]
    source = "\n    ".join([f"def pointwise({', '.join(parameters)}):", *body]) + "\n"
    # Triton reads a function's source as the debugger does.
    file = f"<ai3 pointwise {hash(source):x}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    space = {"tl": tl, "_activated": _activated, "__name__": __name__}
    exec(compile(source, file, "exec"), space)
    return triton.jit(space["pointwise"])
