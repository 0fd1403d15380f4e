"""Images at other sizes, and read at places that the network computes."""

from functools import reduce
from itertools import product
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.convolution import of
from ai3.torch.lowerings.images import extents, over_depth, planes, rows, tensor_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.pooling import adaptive_avg_pool
from ai3.torch.lowerings.shapes import permuted, reshape
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Refusal, Value

_DIMS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


@lowers("torch.nn.functional.interpolate", "torch.nn.functional.upsample")
def interpolate(
    b: Builder,
    x: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    dims = _DIMS.get(mode) or _dims(x, size, scale_factor)
    if mode == "area":
        return adaptive_avg_pool(dims)(b, x, _size(x, dims, size, scale_factor))
    if antialias:
        return _smoothed(
            b, x, mode, size, scale_factor, bool(align_corners), bool(recompute_scale_factor)
        )
    attributes = {
        "mode": "bilinear" if mode.endswith("linear") else mode,
        "align_corners": align_corners,
        "recompute_scale_factor": recompute_scale_factor,
    }

    def resized(x: Value, size: Any, factor: Any) -> Value:
        return b.add("interpolate", [x], {"size": size, "scale_factor": factor, **attributes})

    if dims == 2:
        return resized(x, size, scale_factor)
    sizes = None if size is None else of(dims, size)
    factors = None if scale_factor is None else of(dims, scale_factor)
    if dims == 1:
        image = rows(b, x)
        y = resized(image.value, sizes and (1, *sizes), factors and (1.0, *factors))
        return tensor_of(b, image, y)
    image = planes(b, x)
    y = resized(image.value, sizes and sizes[1:], factors and factors[1:])

    def deep(v: Value) -> Value:
        return resized(v, sizes and (sizes[0], shape_of(v.name)[3]), factors and (factors[0], 1.0))

    return over_depth(b, image, y, deep)


def _dims(x: Value, size: Any, factor: Any) -> int:
    """How many dimensions are resized where the mode does not tell."""
    for given in (size, factor):
        if isinstance(given, tuple | list) and len(given) > 1:
            return len(given)
    return 2 if x.image is None else x.image.dims


def _size(x: Value, dims: int, size: Any, factor: Any) -> tuple[Any, ...]:
    if size is not None:
        return of(dims, size)
    shape = shape_of(x.name)
    return tuple(
        Expression("floor", (shape[dim] * f,))
        for dim, f in zip(range(-dims, 0), of(dims, factor), strict=True)
    )


def _smoothed(
    b: Builder, x: Value, mode: str, size: Any, factor: Any, align_corners: bool, recompute: bool
) -> Value:
    """Each output element a weighted sum of all input elements that it stands for."""
    factors = (None, None) if factor is None or recompute else of(2, factor)
    for dim, extent, f in zip((-2, -1), _size(x, 2, size, factor), factors, strict=True):
        taps = (shape_of(x.name)[dim], extent, mode, align_corners, f)
        x = b.add("take", [x], {"dim": dim, "indices": Expression("smoothing", (*taps, 0))})
        x = reshape(b, x, Expression("unflattened", (shape_of(x.name), dim, (extent, -1))))
        weights = b.computed(Expression("smoothing", (*taps, 1)))
        if dim == -2:
            weights = reshape(b, weights, Expression("unsqueezed", (shape_of(weights.name), -1)))
        x = b.add("sum", [b.add("mul", [x, weights])], {"dim": dim, "keepdim": False})
    return x


def _aten(mode: str, antialias: bool = False) -> Any:
    corners = mode.endswith(("linear", "cubic"))

    def lower(b: Builder, x: Value, size: Any, *rest: Any) -> Value:
        """`rest` is align_corners where the mode has it, and factors: a list, or one by one."""
        aligned, rest = (rest[0], rest[1:]) if corners else (None, rest)
        factors: Any = rest[0] if rest and isinstance(rest[0], tuple | list) else rest
        if not factors or None in factors:
            factors = None
        if factors is not None:
            size = None  # torch computes with the factors where it is given both
        return interpolate(b, x, size, factors, mode, aligned, False, antialias)

    return lower


for _name, _mode in (
    *((f"upsample_nearest{d}d", "nearest") for d in (1, 2, 3)),
    *((f"_upsample_nearest_exact{d}d", "nearest-exact") for d in (1, 2, 3)),
    *(
        (f"upsample_{mode}{d}d", mode)
        for mode, d in (("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3))
    ),
):
    lowers(f"aten.{_name}", f"torch._C._nn.{_name}")(_aten(_mode))
for _mode in ("bilinear", "bicubic"):
    lowers(f"aten._upsample_{_mode}2d_aa")(_aten(_mode, antialias=True))


@lowers("torch.nn.functional.grid_sample")
def _grid_sample(
    b: Builder,
    x: Value,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Value:
    """Pixels as rows of channels, those that each place lies between, weighted."""
    if mode not in ("bilinear", "nearest"):
        raise Refusal(f"grid_sample with mode={mode!r}")
    if x.image is not None and x.image.dims == 3:
        raise Refusal("grid_sample of volumes")
    grid = b.value(grid)
    n, c, h, w = extents(x, 4)
    _, oh, ow, _ = extents(grid, 4)
    pixels = reshape(b, permuted(b, x, (0, 2, 3, 1)), (n * h * w, c))
    first = b.computed(Expression("image starts", (n, h * w)), torch.int64)
    axes = []
    for i, extent in ((1, h), (0, w)):
        at = b.add("slice", [grid], {"dim": 3, "start": i, "end": i + 1, "step": 1})
        at = reshape(b, at, (n, oh, ow))
        axes.append(_places(b, at, extent, mode, padding_mode, bool(align_corners)))
    terms = []
    for (row, row_weight), (column, column_weight) in product(*axes):
        index = pointwise(
            b,
            "first + int64(row) * w + int64(column)",
            first=first,
            row=row,
            w=w,
            column=column,
        )
        read = b.add("index_select", [pixels, reshape(b, index, (n * oh * ow,))], {"dim": 0})
        weight = pointwise(b, "r * c", r=row_weight, c=column_weight)
        weight = reshape(b, weight, (n * oh * ow, 1))
        # Beyond the border is zero, whatever lies at the place that is read instead.
        terms.append(pointwise(b, "where(w == 0, 0, x * w)", x=read, w=weight))
    total = reduce(lambda x, y: b.add("add", [x, y]), terms)
    return permuted(b, reshape(b, total, (n, oh, ow, c)), (0, 3, 1, 2))


def _places(
    b: Builder, at: Value, extent: Int, mode: str, padding_mode: str, align_corners: bool
) -> list[tuple[Value, Value]]:
    """Along one axis the pixels that places from -1 to 1 lie between, each within the image, with
    their weights."""
    size: Any = extent
    if align_corners:
        at = pointwise(b, "(x + 1) * (0.5 * (size - 1))", x=at, size=size)
    else:
        at = pointwise(b, "((x + 1) * size - 1) * 0.5", x=at, size=size)
    if padding_mode == "reflection":
        # Around the middle of the first and last pixel, or around their outer edges.
        low = "0.0" if align_corners else "-0.5"
        span = Expression("max", (extent - 1, 0)) if align_corners else extent
        at = pointwise(b, f"abs(x - ({low}))", x=at)
        at = pointwise(
            b,
            "where(span == 0, 0.0, where(remainder(floor(x / span), 2) == 0, "
            "x - floor(x / span) * span, span - (x - floor(x / span) * span)))",
            x=at,
            span=span,
        )
        at = pointwise(b, f"x + ({low})", x=at)
    if padding_mode in ("border", "reflection"):
        at = pointwise(b, "minimum(maximum(x, 0.0), size - 1.0)", x=at, size=size)
    elif padding_mode != "zeros":
        raise Refusal(f"grid_sample with padding_mode={padding_mode!r}")
    inside = "(i >= 0) & (i <= size - 1)"
    within = "minimum(maximum(i, 0.0), size - 1.0)"
    if mode == "nearest":
        corners = [(pointwise(b, "round(x)", x=at), pointwise(b, "x * 0.0 + 1.0", x=at))]
    else:
        below = pointwise(b, "floor(x)", x=at)
        corners = [
            (below, pointwise(b, "1.0 - (x - i)", x=at, i=below)),
            (pointwise(b, "i + 1.0", i=below), pointwise(b, "x - i", x=at, i=below)),
        ]
    return [
        (
            pointwise(b, within, i=place, size=size),
            pointwise(b, f"where({inside}, w, 0.0)", i=place, size=size, w=weight),
        )
        for place, weight in corners
    ]


@lowers("aten.grid_sampler", "torch.grid_sampler")
def _grid_sampler(
    b: Builder, x: Value, grid: Any, mode: int, padding_mode: int, align_corners: bool
) -> Value:
    names = (
        ("bilinear", "nearest", "bicubic")[mode],
        ("zeros", "border", "reflection")[padding_mode],
    )
    return _grid_sample(b, x, grid, *names, align_corners)


@lowers("torch.nn.functional.affine_grid", "aten.affine_grid_generator")
def _affine_grid(b: Builder, theta: Any, size: Any, align_corners: bool | None = None) -> Value:
    """The places (N, H, W, 2) in an image of which theta (N, 2, 3) makes those from -1 to 1."""
    if isinstance(size, tuple | list) and len(size) == 5:
        raise Refusal("affine_grid of volumes")
    h, w = size[2], size[3]
    theta = b.value(theta)
    base = b.computed(Expression("affine base", (h, w, bool(align_corners))))  # (H * W, 3)
    places = b.add("matmul", [base, permuted(b, theta, (0, 2, 1))])
    return reshape(b, places, (shape_of(theta.name)[0], h, w, 2))


@lowers("torch.nn.functional.fold", "aten.col2im")
def _fold(
    b: Builder,
    x: Value,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Value:
    """The sum of windows (N, C * KH * KW, L) where they lie in images (N, C, H, W)."""
    axes = list(
        zip(*(of(2, v) for v in (output_size, kernel_size, stride, padding, dilation)), strict=True)
    )
    counts = [
        Expression("windows of", (size + 2 * p, d * (k - 1) + 1, s)) for size, k, s, p, d in axes
    ]
    n, channels, _ = extents(x, 3)
    (_, kh, *_), (_, kw, *_) = axes
    x = reshape(b, x, (n, channels // (kh * kw), kh, kw, counts[0], counts[1]))
    x = permuted(b, x, (0, 1, 2, 4, 3, 5))
    for at, (size, k, s, p, d), count in zip((2, 3), axes, counts, strict=True):
        # Windows and places in them become one dimension, with a zero after it; then of each pixel
        # all that is added up there.
        joined = Expression("joined", (shape_of(x.name), at))
        x = reshape(b, x, joined)
        pads = (0, 0, 0, 0, 0, 1) if at == 2 else (0, 1)
        x = b.add("pad", [x], {"pad": pads, "mode": "constant", "value": 0.0})
        places = Expression("folded", (size, k, count, s, p, d))
        x = b.add("take", [x], {"dim": at, "indices": places})
        x = reshape(b, x, Expression("unflattened", (shape_of(x.name), at, (size, -1))))
        x = b.add("sum", [x], {"dim": at + 1, "keepdim": False})
    return x
