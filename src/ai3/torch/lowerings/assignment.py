"""Tensors of which a part is overwritten: others, that are read from there on in their place."""

from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.arithmetic import converted
from ai3.torch.lowerings.indexing import index_of, parted, put, rewritten
from ai3.torch.lowerings.movement import select, slice_
from ai3.torch.lowerings.shapes import expand, filled
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Value


@lowers("_operator.setitem", "Tensor.__setitem__")
def _setitem(b: Builder, x: Value, index: Any, value: Any) -> Value:
    part, places = parted(b, x, index)
    written = put(b, part, places, value) if places else filled_with(b, part, value)
    return rewritten(x, part, written)


@lowers("Tensor.index_put", "Tensor.index_put_", "torch.index_put")
def _index_put(b: Builder, x: Value, indices: Any, values: Any, accumulate: bool = False) -> Value:
    part, places = parted(b, x, index_of(indices))
    how = "sum" if accumulate else None
    return rewritten(x, part, put(b, part, places, values, how))


@lowers("torch.select_scatter", "Tensor.select_scatter")
def _select_scatter(b: Builder, x: Value, src: Value, dim: int, index: Int) -> Value:
    part = select(b, x, dim, index)
    return rewritten(x, part, filled_with(b, part, src))


@lowers("torch.slice_scatter", "Tensor.slice_scatter")
def _slice_scatter(
    b: Builder,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    part = slice_(b, x, dim, start, end, step)
    return rewritten(x, part, filled_with(b, part, src))


@lowers("Tensor.copy_", "aten.copy")
def _copy(b: Builder, x: Value, source: Any, non_blocking: bool = False) -> Value:
    return filled_with(b, x, source)


@lowers("Tensor.fill_", "torch.fill")
def _fill(b: Builder, x: Value, value: Any) -> Value:
    return filled_with(b, x, value)


@lowers("Tensor.zero_", "aten.zero", "torch.zero_")
def _zero(b: Builder, x: Value) -> Value:
    return filled_with(b, x, 0)


def filled_with(b: Builder, x: Value, source: Any) -> Value:
    """An array of x's shape and type, with a number or the elements of an array in it."""
    own = b.dtype_of(x)
    if isinstance(source, torch.Tensor) and source.numel() == 1:
        source = source.item()
    if isinstance(source, bool | int | float | Expression):
        return filled(b, shape_of(x.name), source, own)
    return expand(b, converted(b, b.value(source), own), shape_of(x.name))
