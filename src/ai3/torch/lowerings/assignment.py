"""Tensors of which a part is overwritten: others, that are read from there on in their place."""

from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.arithmetic import converted
from ai3.torch.lowerings.movement import getitem
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import expand, filled, rank, reshape
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


@lowers("_operator.setitem", "Tensor.__setitem__")
def _setitem(b: Builder, x: Value, index: Any, value: Any) -> Value:
    """The tensor with other elements in some places: those that basic indexing names, or one number
    where a mask is true."""
    value = _number(value)
    if isinstance(index, Value) and index.dtype == torch.bool:
        if not isinstance(value, bool | int | float | Expression):
            raise Refusal("as many numbers as a computed mask has true ones")
        shape = Expression("ones after", (shape_of(index.name), rank(x)))
        return pointwise(b, "where(m, v, x)", m=reshape(b, index, shape), v=value, x=x)
    items = index if isinstance(index, tuple) else (index,)
    if not all(
        i is None or i is Ellipsis or isinstance(i, slice | int | Expression) for i in items
    ):
        raise Refusal("assignment to places that a tensor or list names")
    return rewritten(b, x, getitem(b, x, index), value)


@lowers("Tensor.index_put_", "aten.index_put")
def _index_put(b: Builder, x: Value, indices: Any, values: Any, accumulate: bool = False) -> Value:
    if accumulate:
        raise Refusal("index_put_ that adds")
    items = tuple(slice(None) if item is None else item for item in indices)
    return _setitem(b, x, items[0] if len(items) == 1 else items, values)


@lowers("Tensor.copy_")
def _copy(b: Builder, x: Value, source: Any, non_blocking: bool = False) -> Value:
    return filled_with(b, x, source)


@lowers("Tensor.fill_")
def _fill(b: Builder, x: Value, value: Any) -> Value:
    return filled_with(b, x, value)


@lowers("Tensor.zero_")
def _zero(b: Builder, x: Value) -> Value:
    return filled_with(b, x, 0)


def filled_with(b: Builder, x: Value, source: Any) -> Value:
    """An array of x's shape and type, with a number or the elements of an array in it."""
    own, source = x.dtype or b.dtype, _number(source)
    if isinstance(source, bool | int | float | Expression):
        return filled(b, shape_of(x.name), source, own)
    source = b.value(source)
    if (source.dtype or b.dtype) != own:
        source = converted(b, source, own)
    return expand(b, source, shape_of(x.name))


def rewritten(b: Builder, x: Value, part: Value, source: Any) -> Value:
    """x with other elements in a part of it."""
    value = filled_with(b, part, source)
    while part is not x:
        view = part.view
        if view is None or view.written is None:
            raise Refusal("writing to several places at once")
        part, value = view.base, view.written(value)
    return value


def _number(item: Any) -> Any:
    """A constant of one element as a number."""
    return item.item() if isinstance(item, torch.Tensor) and item.numel() == 1 else item
