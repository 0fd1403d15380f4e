"""Functions and methods of torch that are no single operation of the framework, or none at all.

`TABLE` maps qualified names, "Tensor.view" being a method, to functions of the Capture, to which
they add nodes, and of torch's own parameters.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch

from ai3.graph.expression import FUNCTIONS, Expression, shape_of
from ai3.torch.stand_ins import Pieces, Refusal, Value, holds

Int = int | Expression


class Builder(Protocol):
    """What lowerings add nodes to; see `capture.Capture`."""

    @property
    def dtype(self) -> torch.dtype: ...
    def add(
        self, op: str, inputs: Sequence[Any], attributes: Any = ..., weights: Any = ...
    ) -> Value: ...
    def value(self, item: Any) -> Value: ...
    def computed(self, value: Expression) -> Value: ...
    def check(self, condition: Expression) -> None: ...


Lowering = Callable[..., Any]
TABLE: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    def register(lower: Lowering) -> Lowering:
        TABLE.update(dict.fromkeys(names, lower))
        return lower

    return register


# Shapes


@lowers("builtins.getattr")
def _getattr(b: Builder, x: Value, name: str) -> Any:
    known: dict[str, Callable[[], Any]] = {
        "shape": lambda: shape_of(x.name),
        "ndim": lambda: rank(x),
        "dtype": lambda: b.dtype,
        "device": lambda: torch.device("cpu"),
        "is_cuda": lambda: False,
        "requires_grad": lambda: False,
        "data": lambda: x,
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


# Other shapes of the same elements


@lowers("Tensor.view", "Tensor.reshape", "torch.reshape", "aten.view", "aten.reshape")
def reshape(b: Builder, x: Value, *shape: Any) -> Value:
    if len(shape) == 1 and isinstance(shape[0], torch.dtype):
        raise Refusal("view as another dtype")
    return _view(b, "reshape", x, {"shape": _spread(shape)})


@lowers("Tensor.view_as", "Tensor.reshape_as")
def _view_as(b: Builder, x: Value, other: Value) -> Value:
    return reshape(b, x, shape_of(other.name))


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
    return permuted(b, x, _spread(dims))


def permuted(b: Builder, x: Value, dims: Any) -> Value:
    return _view(b, "permute", x, {"dims": dims})


@lowers(
    *(f"{where}.{name}" for where in ("torch", "Tensor") for name in ("transpose", "swapaxes")),
    *(f"{where}.swapdims" for where in ("torch", "Tensor")),
)
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    return permuted(b, x, Expression("swapped", (rank(x), dim0, dim1)))


@lowers("torch.t", "Tensor.t")
def _t(b: Builder, x: Value) -> Value:
    return permuted(b, x, Expression("reversed", (rank(x),)))


@lowers("torch.movedim", "Tensor.movedim", "torch.moveaxis", "Tensor.moveaxis")
def _movedim(b: Builder, x: Value, source: Any, destination: Any) -> Value:
    if not isinstance(source, int) or not isinstance(destination, int):
        raise Refusal("movedim of several dimensions")
    return permuted(b, x, Expression("moved", (rank(x), source, destination)))


@lowers("Tensor.expand", "aten.expand")
def expand(b: Builder, x: Value, *sizes: Any) -> Value:
    return _view(b, "expand", x, {"shape": _spread(sizes)})


@lowers("Tensor.expand_as")
def _expand_as(b: Builder, x: Value, other: Value) -> Value:
    return expand(b, x, shape_of(other.name))


def _view(b: Builder, op: str, x: Any, attributes: dict[str, Any]) -> Value:
    x = b.value(x)
    return Value(b.add(op, [x], attributes).name, x.memory)


def _spread(items: tuple[Any, ...]) -> Any:
    """Of f(1, 2) and f((1, 2)) the tuple."""
    if len(items) == 1 and not isinstance(items[0], int):
        first = items[0]
        return tuple(first) if isinstance(first, list | tuple) else first
    if len(items) == 1 and isinstance(items[0], Expression):
        return items[0]
    return items


# Parts


def sliced(b: Builder, x: Value, dim: Int, start: Any = 0, end: Any = None, step: int = 1) -> Value:
    attributes = {"dim": dim, "start": start, "end": end, "step": step}
    return _view(b, "slice", x, attributes)


@lowers("torch.select", "Tensor.select", "aten.select")
def select(b: Builder, x: Value, dim: Int, index: Int) -> Value:
    stop = Expression("stop", (index,)) if isinstance(index, Expression) else index + 1 or None
    return squeeze(b, sliced(b, x, dim, index, stop), dim)


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
def _getitem(b: Builder, x: Value, index: Any) -> Value:
    items = list(index) if isinstance(index, tuple) else [index]
    if holds(items, Value | torch.Tensor | list):
        raise Refusal("indexing by a tensor or a list")
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
        elif isinstance(item, bool) or not isinstance(item, int | Expression):
            raise Refusal(f"indexing by {item!r}")
        else:
            x = select(b, x, dim, item)
    return x


def _count(items: list[Any], ellipsis: Any) -> int:
    """The dimensions that are indexed before the ellipsis."""
    before = items[: next(i for i, item in enumerate(items) if item is ellipsis)]
    return sum(item is not None for item in before)


@lowers("torch.chunk", "Tensor.chunk")
def _chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
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
    return Pieces(lambda index: sliced(b, x, dim, index * sizes, (index + 1) * sizes))


@lowers("torch.unbind", "Tensor.unbind")
def _unbind(b: Builder, x: Value, dim: int = 0) -> Pieces:
    return Pieces(lambda index: select(b, x, dim, index))


# What is the tensor itself


@lowers(
    "Tensor.contiguous",
    "Tensor.clone",
    "torch.clone",
    "Tensor.detach",
    "torch.detach",
    "Tensor.cpu",
    "torchvision.ops.stochastic_depth.stochastic_depth",
)
def _same(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return x


@lowers("torch.nn.functional.dropout", "torch.nn.functional.dropout2d", "torch.dropout")
def _dropout(
    b: Builder, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    if training and p:
        raise Refusal("dropout with training=True, which is random; pass training=self.training")
    return x


@lowers("Tensor.to", "Tensor.type", "Tensor.type_as", "Tensor.float", "Tensor.double")
def _to(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    wanted = [
        a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype | str | torch.device)
    ]
    if any(isinstance(a, torch.dtype) and a != b.dtype for a in wanted) or any(
        not isinstance(a, torch.dtype) and torch.device(a).type != "cpu" for a in wanted
    ):
        raise Refusal("a conversion to another dtype or device")
    return x


# Arithmetic


def _binary(op: str, *names: str) -> None:
    def lower(b: Builder, x: Any, y: Any, *, alpha: Any = 1, rounding_mode: Any = None) -> Value:
        if rounding_mode is not None:
            raise Refusal(f"{op} with rounding")
        return b.add(op, [x, y], {"alpha": alpha} if alpha != 1 else {})

    places = [f"{where}.{name}" for where in ("torch", "Tensor") for name in names]
    lowers(*places, *(f"Tensor.{name}_" for name in names))(lower)
    lowers(f"_operator.{names[0]}", f"_operator.i{names[0]}")(lower)


_binary("add", "add")
_binary("sub", "sub", "subtract")
_binary("mul", "mul", "multiply")
_binary("div", "truediv", "div", "divide", "true_divide")


@lowers("torch.rsub", "Tensor.rsub")
def _rsub(b: Builder, x: Any, y: Any) -> Value:
    return b.add("sub", [y, x])


@lowers("_operator.neg", "torch.neg", "Tensor.neg")
def _neg(b: Builder, x: Value) -> Value:
    return b.add("mul", [x, -1.0])


@lowers("torch.square", "Tensor.square")
def _square(b: Builder, x: Value) -> Value:
    return b.add("mul", [x, x])


# Products and attention


@lowers("torch.matmul", "Tensor.matmul", "_operator.matmul", "torch.bmm", "Tensor.bmm", "torch.mm")
def matmul(b: Builder, x: Any, y: Any) -> Value:
    return b.add("matmul", [x, y])


@lowers("torch.functional.einsum", "torch.einsum")
def _einsum(b: Builder, equation: str, *operands: Any) -> Value:
    """Of two operands, as one batched matrix product."""
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or not result or "." in equation or any(len(set(t)) < len(t) for t in terms):
        raise Refusal(f"einsum of {equation!r}: only of two operands with an explicit result")
    first, second = terms
    batch = [c for c in result if c in first and c in second]
    rows = [c for c in result if c in first and c not in second]
    columns = [c for c in result if c in second and c not in first]
    inner = [c for c in first if c in second and c not in result]
    if (
        len(inner) != 1
        or len(rows) != 1
        or len(columns) != 1
        or set(first + second) - {*batch, *rows, *columns, *inner}
    ):
        raise Refusal(f"einsum of {equation!r}: only what is a batched matrix product")

    def ordered(x: Any, term: str, order: list[str]) -> Any:
        dims = tuple(term.index(c) for c in order)
        return x if list(dims) == list(range(len(dims))) else permuted(b, b.value(x), dims)

    product = matmul(
        b,
        ordered(operands[0], first, [*batch, *rows, *inner]),
        ordered(operands[1], second, [*batch, *inner, *columns]),
    )
    return ordered(product, "".join([*batch, *rows, *columns]), list(result))


@lowers("torch._C._nn.scaled_dot_product_attention")
def attention(
    b: Builder,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p or enable_gqa:
        raise Refusal("scaled_dot_product_attention with dropout or grouped queries")
    if isinstance(attn_mask, torch.Tensor) and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=b.dtype).masked_fill(~attn_mask, -math.inf)
    inputs = [query, key, value, *([] if attn_mask is None else [attn_mask])]
    attributes = {"is_causal": is_causal, "scale": scale}
    return b.add("scaled_dot_product_attention", inputs, attributes)


@lowers("torch.nn.functional.softmax", "torch.softmax", "Tensor.softmax", "aten.softmax")
def softmax(b: Builder, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    if dim is None or (dtype is not None and dtype != b.dtype):
        raise Refusal("softmax without a dimension, or to another dtype")
    return b.add("softmax", [x], {"dim": dim})


# Norms


@lowers("torch.nn.functional.layer_norm", "torch.layer_norm")
def _layer_norm(
    b: Builder,
    x: Value,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    attributes = {"normalized_shape": tuple(normalized_shape), "eps": eps}
    return b.add("layer_norm", [x], attributes, [weight, bias])


@lowers("torch.nn.functional.group_norm", "torch.group_norm")
def _group_norm(
    b: Builder,
    x: Value,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    return b.add("group_norm", [x], {"num_groups": num_groups, "eps": eps}, [weight, bias])


@lowers("torch.nn.functional.batch_norm")
def _batch_norm(
    b: Builder,
    x: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or running_mean is None:
        raise Refusal("batch_norm by the batch's own statistics; call eval() first")
    return b.add("batchnorm2d", [x], {"eps": eps}, [weight, bias, running_mean, running_var])


@lowers("aten.batch_norm")
def _aten_batch_norm(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    return _batch_norm(b, x, mean, var, weight, bias, training, momentum, eps)


# Integers that depend on shapes


@lowers("torch._assert")
def _assert(b: Builder, condition: Any, message: str = "") -> None:
    return None


_CREATORS = {torch.zeros: 0.0, torch.ones: 1.0}


def expression(b: Builder, target: Any, args: Any, kwargs: Any) -> Any:
    """A call with integers that depend on shapes, and no tensors."""
    name = str(getattr(target, "__name__", target))
    if target is torch._assert:
        if isinstance(args[0], Expression):
            b.check(args[0])
        return None
    if target in _CREATORS:
        return b.computed(Expression("full", (_spread(args), _CREATORS[target])))
    if target is torch.arange and kwargs.get("dtype") == b.dtype:
        return b.computed(Expression("arange", args))
    if name in FUNCTIONS and not kwargs and not isinstance(target, str):
        return Expression(name, tuple(args))
    raise Refusal(f"{name.removeprefix('Tensor.')} of a number that depends on shapes")
