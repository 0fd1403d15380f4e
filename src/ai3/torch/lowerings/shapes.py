"""Shapes as numbers, and other shapes of the same elements."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ai3.graph.expression import FUNCTIONS, Expression, shape_of
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Refusal, Value, View, holds


@lowers("builtins.getattr")
def _getattr(b: Builder, x: Value, name: str) -> Any:
    known: dict[str, Callable[[], Any]] = {
        "shape": lambda: shape_of(x.name),
        "ndim": lambda: rank(x),
        "dtype": lambda: b.dtype_of(x),
        "device": lambda: torch.device("cpu"),
        "is_cuda": lambda: False,
        "requires_grad": lambda: False,
        "data": lambda: replace(x, view=View(x, lambda value: value)),
        "T": lambda: permuted(b, x, Expression("reversed", (rank(x),))),
        "mT": lambda: transpose(b, x, -1, -2),
    }
    if name not in known:
        raise Refusal(f"the attribute {name} of a tensor")
    return known[name]()


@lowers("Tensor.size", "aten.sym_size")
def _size(b: Builder, x: Value, dim: Int | None = None) -> Expression:
    return shape_of(x.name) if dim is None else shape_of(x.name)[dim]


@lowers("Tensor.dim", "Tensor.ndimension")
def _dim(b: Builder, x: Value) -> Expression:
    return rank(x)


@lowers("Tensor.numel", "torch.numel", "Tensor.nelement")
def _numel(b: Builder, x: Value) -> Expression:
    return Expression("prod", (shape_of(x.name),))


@lowers("builtins.len")
def _len(b: Builder, x: Value) -> Expression:
    return shape_of(x.name)[0]


def rank(x: Value) -> Expression:
    return Expression("len", (shape_of(x.name),))


@lowers("Tensor.reshape", "torch.reshape", "aten.reshape")
def _reshape(b: Builder, x: Value, *shape: Any) -> Value:
    x = b.value(x)
    return own_or_copy(x, reshape(b, x, *shape))


def own_or_copy(x: Value, same: Value) -> Value:
    """The same elements as x has, in its memory or, where x is a part of another tensor, maybe in
    memory of its own: nothing is known then of writing to one of the two."""
    return same if x.view is None else replace(same, view=View(x, None))


@lowers("Tensor.view", "aten.view")
def reshape(b: Builder, x: Value, *shape: Any) -> Value:
    if len(shape) == 1 and isinstance(shape[0], torch.dtype):
        raise Refusal("view as another dtype")
    x = b.value(x)

    def written(value: Value) -> Value:
        return reshape(b, value, shape_of(x.name))

    return view(b, "reshape", x, {"shape": spread(shape)}, written)


@lowers("Tensor.view_as")
def _view_as(b: Builder, x: Value, other: Any) -> Value:
    return reshape(b, x, _shape(other))


@lowers("Tensor.reshape_as")
def _reshape_as(b: Builder, x: Value, other: Any) -> Value:
    return _reshape(b, x, _shape(other))


def _shape(other: Any) -> Any:
    return tuple(other.shape) if isinstance(other, torch.Tensor) else shape_of(other.name)


@lowers("torch.unsqueeze", "Tensor.unsqueeze")
def unsqueeze(b: Builder, x: Value, dim: Int) -> Value:
    return reshape(b, x, Expression("unsqueezed", (shape_of(x.name), dim)))


@lowers("torch.squeeze", "Tensor.squeeze")
def squeeze(b: Builder, x: Value, dim: Any = None) -> Value:
    return reshape(b, x, Expression("squeezed", (shape_of(x.name), dim)))


@lowers("torch.unflatten", "Tensor.unflatten")
def _unflatten(b: Builder, x: Value, dim: int, sizes: Any) -> Value:
    return reshape(b, x, Expression("unflattened", (shape_of(x.name), dim, tuple(sizes))))


@lowers("torch.permute", "Tensor.permute")
def permute(b: Builder, x: Value, *dims: Any) -> Value:
    return permuted(b, x, spread(dims))


@lowers("aten.mT")
def _matrices_turned(b: Builder, x: Value) -> Value:
    return transpose(b, x, -1, -2)


def permuted(b: Builder, x: Value, dims: Any) -> Value:
    def written(value: Value) -> Value:
        return permuted(b, value, Expression("inverse", (dims,)))

    return view(b, "permute", x, {"dims": dims}, written)


@lowers(
    *(f"{where}.{name}" for where in ("torch", "Tensor") for name in ("transpose", "swapaxes")),
    *(f"{where}.swapdims" for where in ("torch", "Tensor")),
)
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    return permuted(b, x, Expression("swapped", (rank(x), dim0, dim1)))


@lowers("torch.t", "Tensor.t", "aten.numpy_T")
def _t(b: Builder, x: Value) -> Value:
    return permuted(b, x, Expression("reversed", (rank(x),)))


@lowers("torch.movedim", "Tensor.movedim", "torch.moveaxis", "Tensor.moveaxis")
def _movedim(b: Builder, x: Value, source: Any, destination: Any) -> Value:
    if not isinstance(source, int) or not isinstance(destination, int):
        raise Refusal("movedim of several dimensions")
    return permuted(b, x, Expression("moved", (rank(x), source, destination)))


@lowers("Tensor.expand", "aten.expand")
def expand(b: Builder, x: Value, *sizes: Any) -> Value:
    return view(b, "expand", x, {"shape": spread(sizes)})


@lowers("Tensor.expand_as")
def _expand_as(b: Builder, x: Value, other: Any) -> Value:
    return expand(b, x, _shape(other))


def view(
    b: Builder,
    op: str,
    x: Any,
    attributes: dict[str, Any],
    written: Callable[[Value], Value] | None = None,
) -> Value:
    """A node whose output is memory of x in torch; `written` as in `View`."""
    x = b.value(x)
    made = View(x, written)
    return replace(b.add(op, [x], attributes), memory=x.memory, dtype=x.dtype, view=made)


def spread(items: tuple[Any, ...]) -> Any:
    """Of f(1, 2) and f((1, 2)) the tuple."""
    if len(items) == 1 and not isinstance(items[0], int):
        first = items[0]
        return tuple(first) if isinstance(first, list | tuple) else first
    if len(items) == 1 and isinstance(items[0], Expression):
        return items[0]
    return items


def filled(b: Builder, shape: Any, value: Any, dtype: Any = None) -> Value:
    """An array of one number; its type is that of the number where no dtype is given."""
    if dtype is None and not isinstance(value, float | Expression):
        dtype = torch.bool if isinstance(value, bool) else torch.int64
    return b.computed(Expression("full", (shape, value)), dtype)


for _name, _value in (("zeros", 0.0), ("ones", 1.0), ("empty", 0.0)):

    def _like(b: Builder, x: Value, *, dtype: Any = None, value: float = _value, **_: Any) -> Value:
        return filled(b, shape_of(x.name), value, dtype or b.dtype_of(x))

    def _new(
        b: Builder, x: Value, *size: Any, dtype: Any = None, value: float = _value, **_: Any
    ) -> Value:
        return filled(b, spread(size), value, dtype or b.dtype_of(x))

    lowers(f"torch.{_name}_like")(_like)
    lowers(f"Tensor.new_{_name}", f"aten.new_{_name}")(_new)


@lowers("torch.full_like")
def _full_like(b: Builder, x: Value, fill_value: Any, *, dtype: Any = None, **_: Any) -> Value:
    return filled(b, shape_of(x.name), fill_value, dtype or b.dtype_of(x))


@lowers("Tensor.new_full", "aten.new_full")
def _new_full(
    b: Builder, x: Value, size: Any, fill_value: Any, *, dtype: Any = None, **_: Any
) -> Value:
    return filled(b, size, fill_value, dtype or b.dtype_of(x))


# Integers that depend on shapes


@lowers("torch._assert")
def _assert(b: Builder, condition: Any, message: str = "") -> None:
    return None


_SYMBOLIC = {
    "sym_not": "not_",
    "sym_ite": "choose",
    **{f"i{name}": name for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")},
}
_CREATORS = {torch.zeros: 0.0, torch.ones: 1.0, torch.empty: 0.0}
_RANGES = {torch.arange: "arange", torch.linspace: "linspace", torch.eye: "eye"}


def expression(b: Builder, target: Any, args: Any, kwargs: Any) -> Any:
    """A call with integers that depend on shapes, and no tensors."""
    name = str(getattr(target, "__name__", target))
    if isinstance(target, torch._ops.OpOverload):
        base = target._schema.name.removeprefix("aten::")
        target = torch._assert if base == "_assert_scalar" else getattr(torch, base, target)
    if target is torch._assert:
        if isinstance(args[0], Expression):
            b.check(args[0])
        return None
    if target in _CREATORS:
        return filled(b, spread(args), _CREATORS[target], kwargs.get("dtype"))
    if target is torch.full:
        size, value = args
        return filled(b, size, value, kwargs.get("dtype"))
    if target in _RANGES:
        dtype = kwargs.get("dtype")
        if dtype is None and target is torch.arange and not holds(args, float):
            dtype = torch.int64
        given = tuple(kwargs[k] for k in ("start", "end", "steps") if k in kwargs)
        return b.computed(Expression(_RANGES[target], (*args, *given)), dtype)
    # torch.export has functions of its own for numbers: torch.sym_max, torch._sym_sqrt.
    name = _SYMBOLIC.get(name, name.removeprefix("_").removeprefix("sym_"))
    if name in FUNCTIONS and not kwargs and not isinstance(target, str):
        return Expression(name, tuple(args))
    raise Refusal(f"{name.removeprefix('Tensor.')} of a number that depends on shapes")
