"""Images at other sizes, and read at places that the network computes."""

from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.convolution import of
from ai3.torch.lowerings.images import extents, over_depth, planes, rows, tensor_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.pooling import adaptive_avg_pool
from ai3.torch.lowerings.shapes import permuted, rank, reshape
from ai3.torch.lowerings.table import Builder, lowers
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
        if isinstance(given, tuple | list):
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


_TAPS = {"nearest": (0, 1), "bilinear": (0, 2), "bicubic": (-1, 4)}
"""Along an axis the first pixel, counted from that at or before a place, and how many are read."""


@lowers("torch.nn.functional.grid_sample")
def _grid_sample(
    b: Builder,
    x: Value,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Value:
    """Pixels as rows of channels, those around each place, weighted; of images (N, C, H, W) and of
    volumes. What lies beyond the border is a row of zeros after all others. What is computed of
    places is (axes x y z, pixels around each, places), so that neighbours are computed alike."""
    if mode not in _TAPS:
        raise Refusal(f"grid_sample with mode={mode!r}")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise Refusal(f"grid_sample with padding_mode={padding_mode!r}")
    grid = b.value(grid)
    shape, places = shape_of(x.name), shape_of(grid.name)
    if mode == "bicubic":
        b.check(Expression("eq", (rank(x), 4)))
    dims = rank(grid) - 2
    count = Expression("prod", (places,)) // dims
    total = Expression("prod", (shape,)) // shape[1]
    pixels = permuted(b, x, Expression("moved", (rank(x), 1, -1)))
    pixels = reshape(b, pixels, (total, shape[1]))
    pixels = b.add("pad", [pixels], {"pad": (0, 0, 0, 1), "mode": "constant", "value": 0.0})

    def for_each_axis(value: Expression, dtype: torch.dtype | None = None) -> Value:
        return reshape(b, b.computed(value, dtype), (dims, -1, 1))

    first, taps = _TAPS[mode]
    size = for_each_axis(Expression("grid sizes", (shape,)))
    step = for_each_axis(Expression("grid steps", (shape,)), torch.float64)
    corner = for_each_axis(Expression("grid corners", (dims, first, taps)))
    at = reshape(b, permuted(b, reshape(b, grid, (count, dims)), (1, 0)), (dims, 1, count))
    at = _unnormalized(b, at, size, bool(align_corners))
    if mode != "bicubic":
        at = _within(b, at, size, padding_mode, bool(align_corners))
    if mode == "nearest":
        pixel = pointwise(b, "round(x)", x=at)
    else:
        pixel = pointwise(b, "floor(x) + k", x=at, k=corner)
    if mode == "bicubic":
        pixel = _within(b, pixel, size, padding_mode, bool(align_corners))
    offset = pointwise(
        b,
        "where((i >= 0) & (i <= size - 1), i * step, total)",
        i=pixel,
        size=size,
        step=step,
        total=b.computed(total, torch.float64),
    )
    offset = b.add("sum", [offset], {"dim": 0, "keepdim": False})
    index = pointwise(
        b,
        "minimum(first + int64(offset), total)",
        first=b.computed(Expression("image starts", (shape[0], total // shape[0])), torch.int64),
        offset=reshape(b, permuted(b, offset, (1, 0)), (shape[0], -1, 1)),
        total=b.computed(total, torch.int64),
    )
    index = permuted(b, reshape(b, index, (count, -1)), (1, 0))
    y = b.add("index_select", [pixels, index], {"dim": 0})
    if mode != "nearest":
        weight = pointwise(b, _WEIGHTS[mode], x=at, k=corner)
        weight = b.add("prod", [weight], {"dim": 0, "keepdim": False})
        y = b.add(
            "mul", [y, reshape(b, weight, Expression("unsqueezed", (shape_of(weight.name), -1)))]
        )
    y = b.add("sum", [y], {"dim": 0, "keepdim": False})
    y = reshape(b, y, Expression("sampled", (places, shape[1])))
    return permuted(b, y, Expression("moved", (rank(x), -1, 1)))


_DISTANCE = "abs(x - floor(x) - k)"
_WEIGHTS = {
    "bilinear": "where(k == 0, 1.0 - (x - floor(x)), x - floor(x))",
    # Keys (1981) with a = -0.75.
    "bicubic": (
        f"where({_DISTANCE} <= 1, "
        f"(1.25 * {_DISTANCE} - 2.25) * {_DISTANCE} * {_DISTANCE} + 1.0, "
        f"((-0.75 * {_DISTANCE} + 3.75) * {_DISTANCE} - 6.0) * {_DISTANCE} + 3.0)"
    ),
}
"""Of a pixel the weight along one axis, k pixels after the one at or before a place x."""


def _unnormalized(b: Builder, at: Value, size: Value, align_corners: bool) -> Value:
    """Places from -1 to 1 in pixels."""
    if align_corners:
        return pointwise(b, "(x + 1) * (0.5 * (size - 1))", x=at, size=size)
    return pointwise(b, "((x + 1) * size - 1) * 0.5", x=at, size=size)


def _within(b: Builder, at: Value, size: Value, padding_mode: str, align_corners: bool) -> Value:
    """Places in pixels, moved into the image as the mode says."""
    if padding_mode == "reflection":
        # Around the middle of the first and last pixel, or around their outer edges.
        low = "0.0" if align_corners else "-0.5"
        span = pointwise(b, "size - 1", size=size) if align_corners else size
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
        at = pointwise(b, "minimum(where(x > 0, x, 0.0), size - 1.0)", x=at, size=size)
    return at


@lowers("aten.grid_sampler", "torch.grid_sampler")
def _grid_sampler(
    b: Builder, x: Value, grid: Any, mode: int, padding_mode: int, align_corners: bool
) -> Value:
    names = (
        ("bilinear", "nearest", "bicubic")[mode],
        ("zeros", "border", "reflection")[padding_mode],
    )
    return _grid_sample(b, x, grid, *names, align_corners)


@lowers("torch.nn.functional.affine_grid", "torch.affine_grid_generator")
def _affine_grid(b: Builder, theta: Any, size: Any, align_corners: bool | None = None) -> Value:
    """The places (N, H, W, 2) in an image of which theta (N, 2, 3) makes those from -1 to 1, or
    (N, D, H, W, 3) in a volume."""
    extents = size[slice(2, None)]
    theta = b.value(theta)
    base = b.computed(Expression("affine places", (extents, bool(align_corners))))
    places = b.add("matmul", [base, permuted(b, theta, (0, 2, 1))])
    return reshape(b, places, Expression("grid shape", (shape_of(theta.name)[0], extents)))


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
