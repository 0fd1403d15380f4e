"""Parts of a tensor, and tensors put together."""

from itertools import pairwise
from typing import Any

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.shapes import squeeze, view
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Pieces, Value


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
def slice_(
    b: Builder, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    stop = None if isinstance(end, int) and end >= 1 << 62 else end
    return sliced(b, x, dim, 0 if start is None else start, stop, step)


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
