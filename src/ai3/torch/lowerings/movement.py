"""Parts of a tensor, and tensors put together."""

from itertools import pairwise
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.shapes import rank, squeeze, unsqueeze, view
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Pieces, Refusal, Value, holds


def sliced(b: Builder, x: Value, dim: Int, start: Any = 0, end: Any = None, step: int = 1) -> Value:
    attributes = {"dim": dim, "start": start, "end": end, "step": step}

    def written(value: Value) -> Value:
        places = Expression("put", (shape_of(x.name)[dim], start, end, step))
        both = b.add("concat", [x, value], {"dim": dim})
        return b.add("take", [both], {"dim": dim, "indices": places})

    return view(b, "slice", x, attributes, written)


@lowers("torch.select", "Tensor.select", "aten.select")
def select(b: Builder, x: Value, dim: Int, index: Int) -> Value:
    return squeeze(b, sliced(b, x, dim, index, _after(index)), dim)


def _after(index: Int) -> Any:
    """Where the slice of one element ends."""
    return Expression("stop", (index,)) if isinstance(index, Expression) else index + 1 or None


@lowers("torch.narrow", "Tensor.narrow")
def _narrow(b: Builder, x: Value, dim: int, start: Int, length: Int) -> Value:
    return sliced(b, x, dim, start, start + length)


@lowers("aten.slice")
def _slice(
    b: Builder, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    stop = None if isinstance(end, int) and end >= 1 << 62 else end
    return sliced(b, x, dim, 0 if start is None else start, stop, step)


@lowers("_operator.getitem")
def getitem(b: Builder, x: Value, index: Any) -> Value:
    items = list(index) if isinstance(index, tuple) else [index]
    items = [plain_index(item) for item in items]
    if sum(isinstance(item, Value | torch.Tensor | list) for item in items) > 1:
        raise Refusal("indexing by several tensors or lists")
    dims = sum(item is not None and item is not Ellipsis for item in items)
    dim: Int = 0
    for item in items:
        if item is None:
            x = unsqueeze(b, x, dim)
            dim = dim + 1
        elif item is Ellipsis:
            dim = rank(x) - (dims - _count(items, item))
        elif isinstance(item, slice):
            if item != slice(None):
                if item.step is not None and not (isinstance(item.step, int) and item.step > 0):
                    raise Refusal("a slice whose step is no positive number")
                start = 0 if item.start is None else item.start
                x = sliced(b, x, dim, start, item.stop, item.step or 1)
            dim = dim + 1
        elif isinstance(item, Value | list):
            x, kept = picked(b, x, dim, item)
            dim = dim + kept
        elif isinstance(item, bool) or not isinstance(item, int | Expression):
            raise Refusal(f"indexing by {item!r}")
        else:
            x = select(b, x, dim, item)
    return x


@lowers("aten.index")
def _index(b: Builder, x: Any, indices: Any) -> Value:
    """Of each dimension its indices, or None for all of it."""
    items = tuple(slice(None) if item is None else item for item in indices)
    return getitem(b, b.value(x), items)


def plain_index(item: Any) -> Any:
    """A constant tensor as an integer, or a list of integers where it has one dimension."""
    if isinstance(item, torch.Tensor):
        if item.dtype == torch.bool and item.dim() == 1:
            item = item.nonzero().flatten()
        if item.dtype == torch.bool or item.dim() > 1:
            raise Refusal("indexing by a constant tensor of several dimensions")
        return item.tolist()
    if isinstance(item, list) and holds(item, Value | torch.Tensor | Expression):
        raise Refusal("indexing by a list that holds tensors")
    if isinstance(item, list) and item and isinstance(item[0], bool):
        return [i for i, chosen in enumerate(item) if chosen]
    return item


def picked(b: Builder, x: Value, dim: Int, item: Any) -> tuple[Value, Int]:
    """The places that a list or tensor of integers names along a dimension, and how many
    dimensions take its place."""
    if isinstance(item, list):
        return b.add("take", [x], {"dim": dim, "indices": tuple(item)}), 1
    if item.dtype == torch.bool:
        raise Refusal("indexing by computed truth values: how many there are depends on the input")
    return b.add("index_select", [x, item], {"dim": dim}), rank(item)


def _count(items: list[Any], ellipsis: Any) -> int:
    """The dimensions that are indexed before the ellipsis."""
    before = items[: next(i for i, item in enumerate(items) if item is ellipsis)]
    return sum(item is not None for item in before)


@lowers("torch.chunk", "Tensor.chunk")
def chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    def piece(index: int) -> Value:
        bounds = Expression("chunk", (shape_of(x.name)[dim], chunks, index))
        return sliced(b, x, dim, bounds[0], bounds[1])

    return tuple(map(piece, range(chunks)))


@lowers("torch.split", "Tensor.split", "Tensor.split_with_sizes", "torch.split_with_sizes")
def _split(b: Builder, x: Value, split_size_or_sections: Any, dim: int = 0) -> Any:
    sizes = split_size_or_sections
    if isinstance(sizes, tuple | list):
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + size)
        return tuple(sliced(b, x, dim, start, stop) for start, stop in pairwise(starts))
    count = (shape_of(x.name)[dim] + sizes - 1) // sizes
    return Pieces(lambda index: sliced(b, x, dim, index * sizes, (index + 1) * sizes), count)


@lowers("torch.unbind", "Tensor.unbind")
def _unbind(b: Builder, x: Value, dim: int = 0) -> Pieces:
    return Pieces(lambda index: select(b, x, dim, index), shape_of(x.name)[dim])
