"""Elements repeated, chosen by their places, and put into another order."""

from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import expand, permuted, rank, reshape, spread, unsqueeze
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


@lowers("torch.flip", "Tensor.flip")
def _flip(b: Builder, x: Value, *dims: Any) -> Value:
    return b.add("flip", [x], {"dims": spread(dims)})


lowers("torch.fliplr", "Tensor.fliplr")(lambda b, x: _flip(b, x, 1))
lowers("torch.flipud", "Tensor.flipud")(lambda b, x: _flip(b, x, 0))


@lowers("Tensor.repeat", "torch.tile", "Tensor.tile", "aten.repeat")
def _repeat(b: Builder, x: Value, *times: Any) -> Value:
    sizes = (shape_of(x.name), spread(times))
    x = reshape(b, x, Expression("repeat apart", sizes))
    x = b.add("expand", [x], {"shape": Expression("repeat expanded", sizes)})
    return reshape(b, x, Expression("repeat joined", sizes))


@lowers("torch.repeat_interleave", "Tensor.repeat_interleave")
def _repeat_interleave(
    b: Builder, x: Value, repeats: Any, dim: Any = None, *, output_size: Any = None
) -> Value:
    if not isinstance(repeats, int | Expression):
        raise Refusal("repeat_interleave by a tensor of repeats")
    if dim is None:
        x, dim = reshape(b, x, -1), 0
    indices = Expression("each repeated", (shape_of(x.name)[dim], repeats))
    return b.add("take", [x], {"dim": dim, "indices": indices})


@lowers("Tensor.unfold")
def _windows(b: Builder, x: Value, dimension: int, size: int, step: int) -> Value:
    extent = shape_of(x.name)[dimension]
    count = Expression("windows of", (extent, size, step))
    order = Expression("moved", (rank(x) + 1, dimension + 1 if dimension >= 0 else dimension, -1))
    indices = Expression("windows", (extent, size, step))
    taken = b.add("take", [x], {"dim": dimension, "indices": indices})
    shape = Expression("unflattened", (shape_of(taken.name), dimension, (count, size)))
    return permuted(b, reshape(b, taken, shape), order)


@lowers("torch.nn.functional.unfold", "aten.im2col")
def _unfold(
    b: Builder, x: Value, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Value:
    """The windows of images (N, C, H, W) as columns (N, C * KH * KW, windows)."""
    kernel, dilation, (ph, pw), stride = (
        (v, v) if isinstance(v, int) else tuple(v) for v in (kernel_size, dilation, padding, stride)
    )
    x = b.add("pad", [x], {"pad": (pw, pw, ph, ph), "mode": "constant", "value": 0.0})
    columns, _ = unfold(b, x, kernel, dilation, stride)
    shape = shape_of(x.name)
    return reshape(b, columns, (shape[0], shape[1] * (kernel[0] * kernel[1]), -1))


def unfold(
    b: Builder, x: Value, kernel: Any, dilation: Any, stride: Any
) -> tuple[Value, tuple[Expression, Expression]]:
    """The windows of images (N, C, H, W) as (N, C, KH, KW, OH, OW), and (OH, OW)."""
    for at, k, s, d in zip((2, 4), kernel, stride, dilation, strict=True):
        # Rows become two dimensions.
        indices = Expression("windows", (shape_of(x.name)[at], k, s, d, False))
        x = b.add("take", [x], {"dim": at, "indices": indices})
        x = reshape(b, x, Expression("unflattened", (shape_of(x.name), at, (k, -1))))
    x = permuted(b, x, (0, 1, 2, 4, 3, 5))
    return x, (shape_of(x.name)[4], shape_of(x.name)[5])


def _shuffled(unshuffle: str) -> Any:
    def lower(b: Builder, x: Value, factor: int) -> Value:
        def shape(what: str) -> Expression:
            return Expression("shuffle", (shape_of(source), factor, unshuffle + what))

        source = x.name
        x = permuted(b, reshape(b, x, shape("split")), shape("order"))
        return reshape(b, x, shape("joined"))

    return lower


lowers("torch.pixel_shuffle", "torch.nn.functional.pixel_shuffle")(_shuffled(""))
lowers("torch.pixel_unshuffle", "torch.nn.functional.pixel_unshuffle")(_shuffled("un"))


@lowers("torch.channel_shuffle", "torch.nn.functional.channel_shuffle")
def _channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    shape = shape_of(x.name)
    split = Expression("unflattened", (shape, 1, (groups, -1)))
    apart = permuted(b, reshape(b, x, split), Expression("swapped", (rank(x) + 1, 1, 2)))
    return reshape(b, apart, shape)


def _triangle(upper: bool) -> Any:
    def lower(b: Builder, x: Value, diagonal: int = 0) -> Value:
        rows, columns = shape_of(x.name)[-2], shape_of(x.name)[-1]
        mask = Expression("tri", (rows, columns, diagonal - upper))
        kept = "where(mask, 0, x)" if upper else "where(mask, x, 0)"
        return pointwise(b, kept, mask=b.computed(mask, torch.bool), x=x)

    return lower


lowers("torch.tril", "Tensor.tril")(_triangle(False))
lowers("torch.triu", "Tensor.triu")(_triangle(True))


@lowers("torch.nn.functional.one_hot", "torch._C._nn.one_hot", "aten.one_hot")
def _one_hot(b: Builder, x: Value, num_classes: int = -1) -> Value:
    if isinstance(num_classes, int) and num_classes < 0:
        raise Refusal("one_hot without num_classes: how many there are depends on the input")
    places = b.computed(Expression("arange", (num_classes,)), torch.int64)
    equal = pointwise(b, "x == y", x=unsqueeze(b, x, -1), y=places)
    return pointwise(b, "int64(x)", x=equal)


@lowers("torch.functional.meshgrid", "torch._VF.meshgrid")
def _meshgrid(b: Builder, *tensors: Any, indexing: str = "ij") -> tuple[Value, ...]:
    parts = (
        list(tensors[0])
        if len(tensors) == 1 and isinstance(tensors[0], tuple | list)
        else [*tensors]
    )
    parts = [b.value(part) for part in parts]
    if indexing == "xy":
        parts[:2] = parts[1::-1]
    shapes = tuple(shape_of(part.name) for part in parts)
    grids = [
        expand(
            b, reshape(b, part, Expression("grid", (shapes, i))), Expression("grid all", (shapes,))
        )
        for i, part in enumerate(parts)
    ]
    if indexing == "xy":
        grids[:2] = grids[1::-1]
    return tuple(grids)
