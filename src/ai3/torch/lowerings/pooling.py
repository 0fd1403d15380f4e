"""Pooling of any number of dimensions."""

from collections.abc import Sequence
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.convolution import of
from ai3.torch.lowerings.images import over_depth, planes, rows, tensor_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import expand, permuted, reshape
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Value


def _pooled(
    b: Builder, op: str, x: Value, dims: int, attributes: dict[str, Any], settings: dict[str, Any]
) -> Value:
    """Windows of `dims` dimensions: a pixel, a row or a box of planes at a time. `attributes` are
    one number, or one for each dimension; an average or maximum over a box is that over depth of
    those over planes, of borders too."""
    kernel = attributes["kernel_size"]
    stride = attributes["stride"]
    given = {**attributes, "stride": kernel if stride is None or stride in ([], ()) else stride}
    given = {name: of(dims, value) for name, value in given.items()}
    if dims == 2:
        return b.add(op, [x], {**given, **settings})
    if dims == 1:
        image = rows(b, x)
        whole = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        given = {name: (whole[name], *value) for name, value in given.items()}
        return tensor_of(b, image, b.add(op, [image.value], {**given, **settings}))
    image = planes(b, x)
    divisor = settings.pop("divisor_override", None)
    flat = {name: value[1:] for name, value in given.items()}
    deep = {name: (value[0], 0 if name == "padding" else 1) for name, value in given.items()}
    if op == "avgpool2d":
        # Of the sums over planes the sums over depth.
        settings = {**settings, "divisor_override": None if divisor is None else 1}
    y = b.add(op, [image.value], {**flat, **settings})
    if divisor is not None:
        settings = {**settings, "divisor_override": divisor}
    return over_depth(b, image, y, lambda v: b.add(op, [v], {**deep, **settings}))


def _max_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        sizes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }
        values = _pooled(b, "maxpool2d", x, dims, sizes, {"ceil_mode": ceil_mode})
        if not return_indices:
            return values
        stride = kernel_size if stride is None or stride in ([], ()) else stride
        axes = zip(*(of(dims, v) for v in (kernel_size, stride, padding, dilation)), strict=True)
        shape = shape_of(values.name)
        windows = [
            (
                shape[i - dims],
                Expression("pooled", (shape_of(x.name)[i - dims], shape[i - dims], *axis)),
            )
            for i, axis in enumerate(axes)
        ]
        return values, _places_of_maxima(b, x, values, windows)

    return lower


def _places_of_maxima(
    b: Builder, x: Value, values: Value, windows: Sequence[tuple[Int, Expression]]
) -> Value:
    """Of each maximum its place in the plane or volume: the first of several, the last of several
    NaN. `windows` are along each dimension how many there are and the places in all of them, first
    those that are first in their window; they stay within x."""
    dims = len(windows)
    sizes = [shape_of(x.name)[i - dims] for i in range(dims)]
    counts = [count for count, _ in windows]
    y = reshape(b, x, (-1, *sizes))
    for i, (count, places) in enumerate(windows):
        dim = 1 + 2 * i
        y = b.add("take", [y], {"dim": dim, "indices": places})
        y = reshape(b, y, Expression("unflattened", (shape_of(y.name), dim, (-1, count))))
    taps = [shape_of(y.name)[1 + 2 * i] for i in range(dims)]
    y = permuted(b, y, (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2)))
    every = Expression("prod", (tuple(taps),))
    y = reshape(b, y, (shape_of(y.name)[0], every, *counts))
    along = {"dim": 1, "keepdim": False}
    best = b.add("argmax", [y], along)
    order = reshape(b, _integers(b, every), (every, *([1] * dims)))
    nan = pointwise(b, "where(isnan(y), k, -1)", y=y, k=order)
    last = b.add("argmax", [nan], along)
    flat = reshape(b, values, shape_of(best.name))
    best = pointwise(b, "where(isnan(v), last, best)", v=flat, last=last, best=best)
    place: Any = None
    for i, (count, places) in enumerate(windows):
        inner = Expression("prod", (tuple(taps[i + 1 :]),))
        own = reshape(b, _integers(b, count), (count, *([1] * (dims - 1 - i))))
        at = pointwise(
            b,
            "remainder(floor_divide(best, inner), taps) * count + own",
            best=best,
            inner=_number(b, inner),
            taps=_number(b, taps[i]),
            count=_number(b, count),
            own=own,
        )
        table = b.computed(places, torch.int64)
        found = b.add("index_select", [table, at], {"dim": 0})
        if place is not None:
            extent = _number(b, sizes[i])
            found = pointwise(b, "p * n + i", p=place, n=extent, i=found)
        place = found
    return reshape(b, place, shape_of(values.name))


def _integers(b: Builder, count: Int) -> Value:
    return b.computed(Expression("arange", (count,)), torch.int64)


def _number(b: Builder, value: Int) -> Any:
    return b.computed(value, torch.int64) if isinstance(value, Expression) else value


def _avg_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        settings = {
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor_override,
        }
        return _pooled(b, "avgpool2d", x, dims, sizes, settings)

    return lower


def adaptive_avg_pool(dims: int) -> Any:
    def lower(b: Builder, x: Value, output_size: Any) -> Value:
        sizes = of(dims, output_size)
        op = "adaptiveavgpool2d"
        if dims == 2:
            return b.add(op, [x], {"output_size": sizes})
        if dims == 1:
            image = rows(b, x)
            return tensor_of(b, image, b.add(op, [image.value], {"output_size": (1, *sizes)}))
        image = planes(b, x)
        y = b.add(op, [image.value], {"output_size": sizes[1:]})
        deep = {"output_size": (sizes[0], None)}
        return over_depth(b, image, y, lambda v: b.add(op, [v], deep))

    return lower


def _adaptive_max_pool(dims: int) -> Any:
    def lower(b: Builder, x: Value, output_size: Any, return_indices: bool = False) -> Any:
        """The greatest in each window, dimension by dimension."""
        values = x
        windows: list[tuple[Int, Expression]] = []
        for dim, size in zip(range(-dims, 0), of(dims, output_size), strict=True):
            extent = shape_of(x.name)[dim]
            count = extent if size is None else size
            windows.append((count, Expression("bins", (extent, count, False))))
            if size is not None:
                values = _greatest_in_bins(b, values, dim, size)
        return (values, _places_of_maxima(b, x, values, windows)) if return_indices else values

    return lower


def _greatest_in_bins(b: Builder, x: Value, dim: int, count: Int) -> Value:
    indices = Expression("bins", (shape_of(x.name)[dim], count))
    x = b.add("take", [x], {"dim": dim, "indices": indices})
    x = reshape(b, x, Expression("unflattened", (shape_of(x.name), dim, (count, -1))))
    return b.add("amax", [x], {"dim": dim, "keepdim": False})


def _max_unpool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        indices: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Value:
        if output_size is None:
            stride = kernel_size if stride is None else stride
            axes = zip(*(of(dims, v) for v in (kernel_size, stride, padding)), strict=True)
            extents = [shape_of(x.name)[i - dims] for i in range(dims)]
            output_size = [
                (extent - 1) * s + (k - 2 * p)
                for extent, (k, s, p) in zip(extents, axes, strict=True)
            ]
        return _unpooled(b, x, indices, [output_size[i - dims] for i in range(dims)])

    return lower


def _unpooled(b: Builder, x: Value, indices: Any, size: Any, *_: Any) -> Value:
    """Zeros but for the elements of x, at their places in the plane or volume."""
    dims, shape = len(size), shape_of(x.name)
    elements = Expression("prod", (tuple(shape[i - dims] for i in range(dims)),))
    planes = Expression("floordiv", (Expression("prod", (shape,)), elements))
    lines = reshape(b, x, (planes, elements))
    places = reshape(b, b.value(indices), (planes, elements))
    zeros = expand(b, b.value(0.0), (planes, Expression("prod", (tuple(size),))))
    written = b.add("scatter", [zeros, places, lines], {"dim": 1})
    return reshape(b, written, Expression("unpooled", (shape, tuple(size))))


def _lp_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> Value:
        """The p-th root of the sum of p-th powers."""
        powers = pointwise(b, "pow(x, p)", x=x, p=float(norm_type))
        sums = _avg_pool(dims)(b, powers, kernel_size, stride, 0, ceil_mode)
        count = 1
        for extent in of(dims, kernel_size):
            count *= extent
        return pointwise(
            b,
            "pow(sign(m) * maximum(abs(m), 0.0) * count, 1 / p)",
            m=sums,
            count=float(count),
            p=float(norm_type),
        )

    return lower


for _dims in (1, 2, 3):
    _d = f"{_dims}d"
    _names = {
        f"max_pool{_d}": _max_pool,
        f"avg_pool{_d}": _avg_pool,
        f"adaptive_avg_pool{_d}": adaptive_avg_pool,
    }
    for _name, _make in _names.items():
        lowers(f"torch.nn.functional.{_name}", f"torch.{_name}")(_make(_dims))
    lowers(f"torch.nn.functional.adaptive_max_pool{_d}")(_adaptive_max_pool(_dims))
    lowers(f"torch.nn.functional.lp_pool{_d}")(_lp_pool(_dims))


def _with_indices(lower: Any) -> Any:
    """The maxima and their indices, whatever `return_indices` says."""

    def pair(b: Builder, *arguments: Any, return_indices: bool = True, **named: Any) -> Any:
        return lower(b, *arguments, return_indices=True, **named)

    return pair


for _dims in (1, 2, 3):
    _d = f"{_dims}d"
    lowers(
        f"aten.adaptive_max_pool{_d}",
        f"torch.adaptive_max_pool{_d}",
        f"torch.nn.functional.adaptive_max_pool{_d}_with_indices",
    )(_with_indices(_adaptive_max_pool(_dims)))
    lowers(
        f"aten.max_pool{_d}_with_indices",
        f"torch.max_pool{_d}_with_indices",
        f"torch.nn.functional.max_pool{_d}_with_indices",
    )(_with_indices(_max_pool(_dims)))
    lowers(f"torch.nn.functional.max_unpool{_d}")(_max_unpool(_dims))
    lowers(f"aten.max_unpool{_d}", f"torch._C._nn.max_unpool{_d}")(_unpooled)
