"""Reductions, sums that run on, and sorting."""

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.arithmetic import converted
from ai3.torch.lowerings.movement import sliced
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.products import softmax
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Refusal, Value

Extremes = namedtuple("Extremes", "values indices")
Range = namedtuple("Range", "min max")


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{where}.{name}" for name in names for where in ("torch", "Tensor"))


def _reduced(b: Builder, op: str, x: Value, dim: Any, keepdim: bool) -> Value:
    """By an operation for reals; integers and bool in float64, which holds them up to 2^53."""
    attributes = {"dim": dim, "keepdim": keepdim}
    if x.dtype is None or x.dtype.is_floating_point:
        return b.add(op, [x], attributes)
    wide = b.add("pointwise", [x], {"program": "float64(x0)"})
    result = b.add(op, [Value(wide.name)], attributes)
    kept = torch.int64 if op == "sum" else x.dtype
    program = {"program": f"{str(kept).removeprefix('torch.')}(x0)"}
    return b.add("pointwise", [result], program)


@lowers(*_both("sum"), "aten.sum")
def _sum(
    b: Builder, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    x = x if dtype is None else converted(b, x, dtype)
    return _reduced(b, "sum", x, dim, keepdim)


@lowers(*_both("mean"), "aten.mean")
def mean(
    b: Builder, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    x = x if dtype is None else converted(b, x, dtype)
    return b.add("mean", [x], {"dim": dim, "keepdim": keepdim})


@lowers(*_both("amax"))
def amax(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return _reduced(b, "amax", x, dim if dim != () else None, keepdim)


@lowers(*_both("amin"))
def amin(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    if x.dtype in (torch.uint8, torch.bool):
        raise Refusal(f"the smallest of {x.dtype} values")
    return pointwise(b, "-x", x=amax(b, pointwise(b, "-x", x=x), dim, keepdim))


def _extreme(function: Callable[..., Value], place: str, elementwise: str) -> Callable[..., Any]:
    def lower(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, Value | torch.Tensor):
            return pointwise(b, f"{elementwise}(x, y)", x=x, y=dim)
        values = function(b, x, dim, keepdim)
        if dim is None:
            return values
        return Extremes(values, b.add(place, [x], {"dim": dim, "keepdim": keepdim}))

    return lower


lowers(*_both("max"), "aten.max")(_extreme(amax, "argmax", "maximum"))
lowers(*_both("min"), "aten.min")(_extreme(amin, "argmin", "minimum"))


@lowers(*_both("aminmax"))
def _aminmax(b: Builder, x: Value, *, dim: Any = None, keepdim: bool = False) -> Any:
    return Range(amin(b, x, dim, keepdim), amax(b, x, dim, keepdim))


@lowers(*_both("any"), "aten.any")
def any_(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    ones = pointwise(b, "float32(x != 0)" if x.dtype != torch.bool else "float32(x)", x=x)
    return pointwise(b, "x != 0", x=b.add("amax", [ones], {"dim": dim, "keepdim": keepdim}))


@lowers(*_both("all"), "aten.all")
def _all(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return pointwise(b, "logical_not(x)", x=any_(b, pointwise(b, "x == 0", x=x), dim, keepdim))


@lowers(*_both("count_nonzero"))
def _count_nonzero(b: Builder, x: Value, dim: Any = None) -> Value:
    return _reduced(b, "sum", pointwise(b, "x != 0", x=x), dim, False)


def _count(x: Value, dim: Any) -> Expression:
    """How many elements go into one of the result."""
    shape = shape_of(x.name)
    if dim is None or dim in ((), []):
        return Expression("prod", (shape,))
    dims = [dim] if isinstance(dim, int) else list(dim)
    count = shape[dims[0]]
    for further in dims[1:]:
        count = count * shape[further]
    return count


def variance(b: Builder, x: Value, dim: Any, correction: Any, keepdim: bool) -> tuple[Value, Value]:
    """The variance with the divisor n - correction, and the mean."""
    dim = None if dim in ((), []) else dim
    centre = mean(b, x, dim, True)
    spread = mean(b, pointwise(b, "square(x - y)", x=x, y=centre), dim, keepdim)
    if correction:
        count = _count(x, dim)
        # Of one element, as torch does, 0 / 0.
        factor = b.add("div", [b.value(count), b.value(count - correction)])
        spread = b.add("mul", [spread, factor])
    return spread, centre if keepdim else mean(b, x, dim, False)


def _spread(root: bool, with_mean: bool) -> Callable[..., Any]:
    def lower(
        b: Builder,
        x: Value,
        *args: Any,
        keepdim: bool = False,
        correction: Any = None,
        unbiased: bool | None = None,
        dim: Any = None,
    ) -> Any:
        # (unbiased) or (dim, unbiased or correction, keepdim)
        given = list(args)
        if given and isinstance(given[0], bool):
            unbiased = given.pop(0)
        elif given:
            dim = given.pop(0)
        if given:
            if isinstance(given[0], bool):
                unbiased = given.pop(0)
            else:
                correction = given.pop(0)
        keepdim = given.pop(0) if given else keepdim
        if correction is None:
            correction = 1 if unbiased is None else int(unbiased)
        spread, centre = variance(b, x, dim, correction, keepdim)
        spread = pointwise(b, "sqrt(x)", x=spread) if root else spread
        return (spread, centre) if with_mean else spread

    return lower


lowers(*_both("var"), "aten.var")(_spread(False, False))
lowers(*_both("std"), "aten.std")(_spread(True, False))
lowers("torch.var_mean", "aten.var_mean")(_spread(False, True))
lowers("torch.std_mean", "aten.std_mean")(_spread(True, True))


@lowers("torch._C._linalg.linalg_vector_norm", "aten.linalg_vector_norm")
def vector_norm(
    b: Builder,
    x: Value,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Any = None,
) -> Value:
    x = x if dtype is None else converted(b, x, dtype)
    attributes = {"dim": dim, "keepdim": keepdim}
    if ord == 2:
        squares = b.add("mul", [x, x])
        return pointwise(b, "sqrt(x)", x=b.add("sum", [squares], attributes))
    sizes = pointwise(b, "abs(x)", x=x)
    if ord == math.inf:
        return amax(b, sizes, dim, keepdim)
    if ord == -math.inf:
        return amin(b, sizes, dim, keepdim)
    if ord == 0:
        return b.add("sum", [pointwise(b, "float32(x != 0)", x=x)], attributes)
    if ord == 1:
        return b.add("sum", [sizes], attributes)
    powers = b.add("sum", [pointwise(b, "pow(x, p)", x=sizes, p=float(ord))], attributes)
    return pointwise(b, "pow(x, p)", x=powers, p=1 / float(ord))


@lowers("torch.norm", "torch.functional.norm", "Tensor.norm", "aten.norm")
def _norm(
    b: Builder, x: Value, p: Any = "fro", dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    if isinstance(p, str) and p != "fro":
        raise Refusal(f"the {p} norm")
    return vector_norm(b, x, 2 if p in ("fro", None) else p, dim, keepdim)


@lowers(*_both("logsumexp"))
def logsumexp(b: Builder, x: Value, dim: Any, keepdim: bool = False) -> Value:
    most = amax(b, x, dim, True)
    shift = pointwise(b, "where(isfinite(m), m, 0.0)", m=most)
    total = b.add("sum", [pointwise(b, "exp(x - s)", x=x, s=shift)], {"dim": dim, "keepdim": True})
    result = pointwise(b, "log(t) + s", t=total, s=shift)
    return result if keepdim else b.add("amax", [result], {"dim": dim, "keepdim": False})


@lowers(*_both("log_softmax"), "torch.nn.functional.log_softmax", "aten.log_softmax")
def _log_softmax(
    b: Builder, x: Value, dim: Any = None, _stacklevel: int = 3, dtype: Any = None
) -> Value:
    if dim is None:
        raise Refusal("log_softmax without a dimension")
    if isinstance(_stacklevel, torch.dtype):
        dtype = _stacklevel
    x = x if dtype is None else converted(b, x, dtype)
    shifted = pointwise(b, "x - m", x=x, m=amax(b, x, dim, True))
    exponentials = pointwise(b, "exp(x)", x=shifted)
    total = b.add("sum", [exponentials], {"dim": dim, "keepdim": True})
    return pointwise(b, "x - log(t)", x=shifted, t=total)


@lowers("torch.nn.functional.softmin")
def _softmin(
    b: Builder, x: Value, dim: Any = None, _stacklevel: int = 3, dtype: Any = None
) -> Value:
    return softmax(b, pointwise(b, "-x", x=x), dim, dtype=dtype)


def _accumulated(op: str) -> Callable[..., Value]:
    def lower(b: Builder, x: Value, dim: Int, *, dtype: Any = None) -> Value:
        x = x if dtype is None else converted(b, x, dtype)
        return b.add(op, [x], {"dim": dim})

    return lower


lowers(*_both("cumsum"))(_accumulated("cumsum"))
lowers(*_both("cumprod"))(_accumulated("cumprod"))


@lowers(*_both("prod"), "aten.prod")
def _prod(
    b: Builder, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    x = x if dtype is None else converted(b, x, dtype)
    return b.add("prod", [x], {"dim": dim, "keepdim": keepdim})


@lowers(*_both("sort"), "aten.sort")
def _sort(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
    # (dim, descending) or, of aten.sort.stable, (stable, dim, descending)
    given = [a for a in args if not isinstance(a, bool)]
    flags = [a for a in args if isinstance(a, bool)]
    dim = kwargs.get("dim", given[0] if given else -1)
    descending = kwargs.get("descending", flags[-1] if flags else False)
    attributes = {"dim": dim, "descending": descending}
    return Extremes(b.add("sort", [x], attributes), b.add("argsort", [x], attributes))


@lowers(*_both("topk"))
def _topk(
    b: Builder, x: Value, k: Int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    ordered = _sort(b, x, dim=dim, descending=largest)
    return Extremes(*(sliced(b, part, dim, 0, k) for part in ordered))
