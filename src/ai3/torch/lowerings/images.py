"""Tensors of one and three spatial dimensions as images, so that operations of two take them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ai3.graph.expression import Expression, shape_of
from ai3.ops import OPERATIONS
from ai3.torch.lowerings.shapes import permuted, rank, reshape
from ai3.torch.lowerings.table import Builder, Int
from ai3.torch.stand_ins import Image, Value

ELEMENTWISE = {"batch_norm"} | {
    op.name
    for op in OPERATIONS.values()
    if op.name in ("add", "sub", "mul", "div", "pointwise")
    or (op.module or "").startswith("torch.nn.modules.activation.")
} - {"softmax"}
"""Operations on single elements, or on those of a channel."""


def rows(b: Builder, x: Value) -> Image:
    """(N, C, L) as (N, C, 1, L)."""
    if x.image is not None and x.image.dims == 1:
        return x.image
    shape = Expression("batched", (Expression("unsqueezed", (shape_of(x.name), -2)), 4))
    return Image(1, reshape(b, x, shape), rank(x))


def planes(b: Builder, x: Value) -> Image:
    """(N, C, D, H, W) as (N * D, C, H, W)."""
    if x.image is not None and x.image.dims == 3:
        return x.image
    own = rank(x)
    x = reshape(b, x, Expression("batched", (shape_of(x.name), 5)))
    return _joined(b, permuted(b, x, (0, 2, 1, 3, 4)), own)


def tensor_of(b: Builder, image: Image, value: Value, depth: Int | None = None) -> Value:
    """The tensor of images `value` that were computed from those of `image`."""
    depth = image.depth if depth is None else depth
    image = replace(image, value=value, depth=depth)
    if image.dims == 1:
        x = reshape(b, value, Expression("squeezed", (shape_of(value.name), -2)))
    else:
        x = permuted(b, apart(b, image), (0, 2, 1, 3, 4))
    x = reshape(b, x, Expression("last", (shape_of(x.name), image.rank)))
    return replace(x, image=image)


def over_depth(b: Builder, image: Image, planes: Value, change: Callable[[Value], Value]) -> Value:
    """The tensor of planes that were computed from those of `image`, changed along depth:
    `change` gets images (N, 1, D, C * H * W)."""
    _, c, h, w = extents(planes, 4)
    y = change(reshape(b, planes, (image.batch, 1, image.depth, c * h * w)))
    depth = shape_of(y.name)[2]
    return tensor_of(b, image, reshape(b, y, (image.batch * depth, c, h, w)), depth)


def apart(b: Builder, image: Image) -> Value:
    """The images (N, D, C, H, W) of the planes (N * D, C, H, W)."""
    _, c, h, w = extents(image.value, 4)
    return reshape(b, image.value, (image.batch, image.depth, c, h, w))


def extents(x: Value, count: int) -> tuple[Expression, ...]:
    shape = shape_of(x.name)
    return tuple(shape[i] for i in range(count))


def elementwise(
    b: Builder, inputs: Sequence[Any], compute: Callable[[list[Any]], Value]
) -> Value | None:
    """What a function of single elements makes of tensors that are at hand as images, as images
    too; None where one is not."""
    images = [x.image for x in inputs if isinstance(x, Value)]
    found = [image for image in images if image is not None]
    if (
        not found
        or len(found) < len(images)
        or len({image.dims for image in found}) > 1
        or not all(isinstance(x, Value | bool | int | float) for x in inputs)
    ):
        return None
    first, *others = found
    for image in others:
        first = replace(first, rank=Expression("max", (first.rank, image.rank)))
    if first.dims == 1 or not others:
        values = [x.image.value if isinstance(x, Value) else x for x in inputs]  # type: ignore[union-attr]
        return tensor_of(b, first, compute(values))
    # So that extents of one broadcast as they do in the tensors.
    values = [apart(b, x.image) if isinstance(x, Value) else x for x in inputs]  # type: ignore[arg-type]
    image = _joined(b, compute(values), first.rank)
    return tensor_of(b, image, image.value)


def _joined(b: Builder, x: Value, own_rank: Any) -> Image:
    n, d, c, h, w = extents(x, 5)
    return Image(3, reshape(b, x, (n * d, c, h, w)), own_rank, n, d)
