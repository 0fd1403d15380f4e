"""Elements at places that integers and truth values name."""

import math
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.arithmetic import converted
from ai3.torch.lowerings.movement import select, sliced
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import expand, permuted, rank, reshape, unsqueeze
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Refusal, Value, holds

Places = list[tuple[Int, Any]]
"""Dimensions of a tensor with the integers that index them: constant tensors, or values. A value of
truth values indexes as many dimensions as it has, from there on."""


@lowers("_operator.getitem", "Tensor.__getitem__")
def getitem(b: Builder, x: Value, index: Any) -> Value:
    part, places = parted(b, x, index)
    return chosen(b, part, places) if places else part


@lowers("aten.index")
def _index(b: Builder, x: Any, indices: Any) -> Value:
    """Of each dimension its indices, or None for all of it."""
    return getitem(b, b.value(x), index_of(indices))


def index_of(indices: Any) -> tuple[Any, ...]:
    """As Python's brackets take what torch's functions do: None there is all of a dimension."""
    return tuple(slice(None) if item is None else item for item in indices)


def parted(b: Builder, x: Value, index: Any) -> tuple[Value, Places]:
    """The part, a view, that integers, slices, None and ... name, and what else indexes that."""
    items = [
        plain
        for item in (index if isinstance(index, tuple) else (index,))
        for plain in _plain_indices(item)
    ]
    dim: Int = 0
    places: Places = []
    for i, item in enumerate(items):
        if item is None:
            x = unsqueeze(b, x, dim)
            dim = dim + 1
        elif item is Ellipsis:
            dim = rank(x) - sum((_count(later) for later in items[i + 1 :]), start=0)
        elif isinstance(item, slice):
            if item != slice(None):
                if item.step is not None and not (isinstance(item.step, int) and item.step > 0):
                    raise Refusal("a slice whose step is no positive number")
                start = 0 if item.start is None else item.start
                x = sliced(b, x, dim, start, item.stop, item.step or 1)
            dim = dim + 1
        elif isinstance(item, Value | torch.Tensor):
            places.append((dim, item))
            dim = dim + _count(item)
        elif isinstance(item, bool) or not isinstance(item, int | Expression):
            raise Refusal(f"indexing by {item!r}")
        else:
            x = select(b, x, dim, item)
    return x, places


def _plain_indices(item: Any) -> list[Any]:
    """What Python's brackets hold, with constant truth values and lists as tensors of integers."""
    if isinstance(item, list):
        if holds(item, Value | torch.Tensor | Expression):
            raise Refusal("indexing by a list that holds tensors")
        item = torch.tensor(item) if item else torch.zeros(0, dtype=torch.int64)
    if not isinstance(item, torch.Tensor):
        return [item]
    if item.dtype in (torch.bool, torch.uint8):
        if item.dim() == 0:
            raise Refusal("indexing by one truth value")
        return list(item.nonzero(as_tuple=True))
    return [item.item() if item.dim() == 0 else item]


def _count(item: Any) -> Int:
    """How many dimensions are indexed by it."""
    if isinstance(item, Value) and item.dtype == torch.bool:
        return rank(item)
    return int(item is not None)


def chosen(b: Builder, x: Value, places: Places) -> Value:
    """The elements at integers of one dimension, or of several together: the integers' dimensions
    take the place of those or, where these are no neighbours, come first."""
    if any(isinstance(item, Value) and item.dtype == torch.bool for _, item in places):
        raise Refusal("indexing by computed truth values: how many there are depends on the input")
    (dim, item), *others = places
    if others:
        x, item, dim = joined(b, x, places)
    elif isinstance(item, torch.Tensor):
        indices = tuple(item.flatten().tolist())
        x = b.add("take", [x], {"dim": dim, "indices": indices})
        if item.dim() == 1:
            return x
        return reshape(b, x, Expression("unflattened", (shape_of(x.name), dim, (*item.shape,))))
    return b.add("index_select", [x, item], {"dim": dim})


def joined(b: Builder, x: Value, places: Places) -> tuple[Value, Value, Int]:
    """The tensor, a view, with all indexed dimensions as one, the integers that index that, and
    which it is. Where one of them is out of range, so is their joint one."""
    dims = tuple(dim for dim, _ in places)
    ranks = tuple(
        item.dim() if isinstance(item, torch.Tensor) else rank(item) for _, item in places
    )
    at = Expression("indexed at", (dims, ranks))
    x = permuted(b, x, Expression("indexed order", (rank(x), dims, ranks)))
    extents = [shape_of(x.name)[at + i] for i in range(len(dims))]
    x = reshape(b, x, Expression("joined", (shape_of(x.name), at, len(dims))))
    operands: dict[str, Any] = {"count": b.computed(shape_of(x.name)[at], torch.int64)}
    index, inside = "", []
    for i, ((_, item), extent) in enumerate(zip(places, extents, strict=True)):
        operands |= {f"i{i}": item, f"n{i}": b.computed(extent, torch.int64)}
        index = (index and f"({index}) * n{i} + ") + f"where(i{i} < 0, i{i} + n{i}, i{i})"
        inside.append(f"(i{i} >= -n{i}) & (i{i} < n{i})")
    return x, pointwise(b, f"where({' & '.join(inside)}, {index}, count)", **operands), at


@lowers("torch.index_select", "Tensor.index_select")
def _index_select(b: Builder, x: Any, dim: int, index: Any) -> Value:
    return chosen(b, b.value(x), [(dim, _flat(b, index))])


@lowers("torch.take", "Tensor.take")
def _take(b: Builder, x: Any, index: Any) -> Value:
    """Of all elements as one dimension."""
    x = reshape(b, x, Expression("prod", (shape_of(b.value(x).name),)))
    return b.add("index_select", [x, index], {"dim": 0})


@lowers("torch.take_along_dim", "Tensor.take_along_dim")
def _take_along_dim(b: Builder, x: Any, indices: Any, dim: int | None = None) -> Value:
    """`gather` in which the other dimensions broadcast."""
    x, indices = b.value(x), b.value(indices)
    if dim is None:
        return _take(b, x, reshape(b, indices, -1))
    shapes = (shape_of(x.name), shape_of(indices.name))
    x, indices = (
        expand(b, item, Expression("along both", (own, other, dim)))
        for item, own, other in zip((x, indices), shapes, shapes[::-1], strict=True)
    )
    return b.add("gather", [x, indices], {"dim": dim})


@lowers("torch.gather", "Tensor.gather")
def _gather(b: Builder, x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Value:
    return b.add("gather", [x, index], {"dim": dim})


@lowers("torch.nn.functional.embedding")
def _embedding(b: Builder, input: Any, weight: Any, *_: Any, **__: Any) -> Value:
    return b.add("index_select", [weight, input], {"dim": 0})


@lowers("aten.embedding", "torch.embedding")
def _aten_embedding(b: Builder, weight: Any, indices: Any, *_: Any, **__: Any) -> Value:
    return _embedding(b, indices, weight)


def _flat(b: Builder, index: Any) -> Any:
    """Integers as a tensor of one dimension."""
    return index.reshape(-1) if isinstance(index, torch.Tensor) else reshape(b, index, -1)


_WRITES = {
    "add": "sum",
    "multiply": "prod",
    "mean": "mean",
    **{name: name for name in ("sum", "prod", "amax", "amin")},
}
"""Torch's names of what is made of an element that is there and one that is put there."""


@lowers("torch.scatter", "Tensor.scatter", "Tensor.scatter_")
def scatter(
    b: Builder,
    x: Value,
    dim: int,
    index: Any,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Value:
    return _scattered(b, x, dim, index, value if src is None else src, reduce)


@lowers("torch.scatter_add", "Tensor.scatter_add", "Tensor.scatter_add_")
def _scatter_add(b: Builder, x: Value, dim: int, index: Any, src: Any) -> Value:
    return _scattered(b, x, dim, index, src, "sum")


@lowers("torch.scatter_reduce", "Tensor.scatter_reduce", "Tensor.scatter_reduce_")
def _scatter_reduce(
    b: Builder,
    x: Value,
    dim: int,
    index: Any,
    src: Any,
    reduce: str,
    *,
    include_self: bool = True,
) -> Value:
    return _scattered(b, x, dim, index, src, reduce, include_self)


@lowers("torch.index_add", "Tensor.index_add", "Tensor.index_add_")
def _index_add(b: Builder, x: Value, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Value:
    source = source if alpha == 1 else b.add("mul", [source, alpha])
    return _slices_put(b, x, dim, index, source, "sum")


@lowers("torch.index_copy", "Tensor.index_copy", "Tensor.index_copy_")
def _index_copy(b: Builder, x: Value, dim: int, index: Any, source: Any) -> Value:
    return _slices_put(b, x, dim, index, source)


@lowers("torch.index_fill", "Tensor.index_fill", "Tensor.index_fill_")
def _index_fill(b: Builder, x: Value, dim: int, index: Any, value: Any) -> Value:
    return _slices_put(b, x, dim, index, value)


@lowers("torch.index_reduce", "Tensor.index_reduce", "Tensor.index_reduce_")
def _index_reduce(
    b: Builder,
    x: Value,
    dim: int,
    index: Any,
    source: Any,
    reduce: str,
    *,
    include_self: bool = True,
) -> Value:
    return _slices_put(b, x, dim, index, source, reduce, include_self)


@lowers("Tensor.put", "Tensor.put_", "torch.put")
def _put(b: Builder, x: Value, index: Any, source: Any, accumulate: bool = False) -> Value:
    all_ = reshape(b, x, Expression("prod", (shape_of(x.name),)))
    source = reshape(b, source, -1)
    how = "sum" if accumulate else None
    return reshape(b, _scattered(b, all_, 0, _flat(b, index), source, how), shape_of(x.name))


def put(b: Builder, x: Value, places: Places, source: Any, reduce: str | None = None) -> Value:
    """The tensor in which what `chosen` would give is overwritten by a number or by what broadcasts
    to it, or combined with that."""
    source = _number(source)
    masks = [item for _, item in places if isinstance(item, Value) and item.dtype == torch.bool]
    (dim, index), *others = places
    if masks:
        if others or reduce is not None or not _is_number(source):
            raise Refusal("as many numbers as a computed mask has true ones")
        shape = Expression("ones after", (shape_of(masks[0].name), rank(x) - dim))
        return pointwise(b, "where(m, v, x)", m=reshape(b, masks[0], shape), v=source, x=x)
    part = x
    if others:
        part, index, dim = joined(b, x, places)
    index, shape = b.value(index), shape_of(part.name)
    count = Expression("prod", (shape_of(index.name),))
    if not _is_number(source):
        read = Expression("indexed shape", (shape, dim, shape_of(index.name)))
        source = expand(b, _typed(b, source, x), read)
        source = reshape(b, source, Expression("unflattened", (shape, dim, (count,))))
    return rewritten(x, part, _slices_put(b, part, dim, index, source, reduce))


def rewritten(x: Value, part: Value, value: Value) -> Value:
    """x with other elements in a part of it."""
    while part is not x:
        view = part.view
        if view is None or view.written is None:
            raise Refusal("writing to several places at once")
        part, value = view.base, view.written(value)
    return value


def _slices_put(
    b: Builder,
    x: Value,
    dim: Int,
    index: Any,
    source: Any,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    """`_scattered` with one integer for each slice."""
    index = b.value(index)
    count = Expression("prod", (shape_of(index.name),))
    index = reshape(b, index, Expression("along", (rank(x), dim, count)))
    shape = Expression("unflattened", (shape_of(x.name), dim, (count,)))
    return _scattered(b, x, dim, expand(b, index, shape), source, reduce, include_self)


def _scattered(
    b: Builder,
    x: Value,
    dim: Int,
    index: Any,
    source: Any,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    index, source = b.value(index), _number(source)
    own = b.dtype_of(x)

    def filled(value: Any, like: Value) -> Value:
        return expand(b, b.computed(value, own), shape_of(like.name))

    def scattered(x: Value, source: Value, how: str) -> Value:
        return b.add("scatter", [x, index, source], {"dim": dim, "reduce": how})

    source = filled(source, index) if _is_number(source) else _typed(b, source, x)
    if reduce is None:
        return scattered(x, source, "set")
    how = _WRITES[reduce]
    if not include_self:
        x = scattered(x, filled(_neutral(how, own), index), "set")
    if how != "mean":
        return scattered(x, source, how)
    counts = scattered(filled(int(include_self), x), filled(1, index), "sum")
    divide = "s / maximum(n, 1)" if own.is_floating_point else "floor_divide(s, maximum(n, 1))"
    return pointwise(b, divide, s=scattered(x, source, "sum"), n=counts)


def _neutral(how: str, dtype: torch.dtype) -> Any:
    """What is combined with any number to give that."""
    if how in ("sum", "mean", "prod"):
        return int(how == "prod")
    if dtype.is_floating_point:
        return -math.inf if how == "amax" else math.inf
    if dtype == torch.bool:
        return how == "amin"
    return torch.iinfo(dtype).min if how == "amax" else torch.iinfo(dtype).max


def _typed(b: Builder, source: Any, x: Value) -> Value:
    return converted(b, b.value(source), b.dtype_of(x))


def _number(item: Any) -> Any:
    """A constant of one element as a number."""
    return item.item() if isinstance(item, torch.Tensor) and item.numel() == 1 else item


def _is_number(item: Any) -> bool:
    return isinstance(item, bool | int | float | Expression)
