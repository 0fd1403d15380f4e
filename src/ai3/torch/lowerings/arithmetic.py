"""What is computed element by element, or is the tensor itself."""

from dataclasses import replace
from typing import Any

import torch

from ai3.torch.lowerings.shapes import own_or_copy
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value, View


@lowers(
    "Tensor.requires_grad_",
    "Tensor.detach_",
    "torch.detach_",
    "Tensor.cpu",
    "torchvision.ops.stochastic_depth.stochastic_depth",
)
def _same(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return x


@lowers("aten.alias", "Tensor.detach", "torch.detach")
def alias(b: Builder, x: Value) -> Value:
    """Another tensor of the same memory."""
    return replace(x, view=View(x, lambda value: value))


@lowers("Tensor.contiguous")
def _contiguous(b: Builder, x: Value, **_: Any) -> Value:
    return own_or_copy(x, x)


@lowers("Tensor.clone", "torch.clone", "aten.lift_fresh_copy")
def _clone(b: Builder, x: Value, **_: Any) -> Value:
    """In memory of its own."""
    return replace(x, memory=object(), view=None)


@lowers("aten._assert_tensor_metadata")
def _asserted(b: Builder, x: Value, *_: Any, **__: Any) -> None:
    """What torch.export asserts before a conversion, which the core checks by itself."""


@lowers(
    *(f"torch.nn.functional.dropout{dims}" for dims in ("", "1d", "2d", "3d")),
    *(f"torch.nn.functional.{name}" for name in ("alpha_dropout", "feature_alpha_dropout")),
    *(f"torch.{name}dropout{_}" for name in ("", "alpha_", "feature_") for _ in ("", "_")),
    *("torch.feature_alpha_dropout", "torch.feature_alpha_dropout_"),
)
def _dropout(
    b: Builder, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    if training and p:
        raise Refusal("dropout with training=True, which is random; pass training=self.training")
    return x


def converted(b: Builder, x: Value, dtype: torch.dtype) -> Value:
    """The tensor in another of the core's dtypes; the network's own stands for the model's."""
    if dtype.is_floating_point:
        dtype = b.real(dtype)
    if dtype not in _DTYPES:
        raise Refusal(f"a conversion to {dtype}")
    if dtype == (x.dtype or b.dtype) and not x.unsure:
        return x
    return b.add("pointwise", [x], {"program": f"{str(dtype).removeprefix('torch.')}(x0)"})


_DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


@lowers("Tensor.to", "Tensor.type", "Tensor.type_as")
def _to(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    for wanted in (*args, *kwargs.values()):
        if isinstance(wanted, torch.dtype):
            x = converted(b, x, wanted)
        elif isinstance(wanted, Value):
            x = converted(b, x, b.dtype_of(wanted))
        elif isinstance(wanted, torch.Tensor):
            x = converted(b, x, wanted.dtype)
        elif isinstance(wanted, str | torch.device) and torch.device(wanted).type != "cpu":
            raise Refusal("a conversion to another device")
    return x


for _name, _dtype in (
    ("float", torch.float32),
    ("double", torch.float64),
    ("long", torch.int64),
    ("int", torch.int32),
    ("byte", torch.uint8),
    ("bool", torch.bool),
):

    def _convert(b: Builder, x: Value, *, dtype: torch.dtype = _dtype, **_: Any) -> Value:
        return converted(b, x, dtype)

    lowers(f"Tensor.{_name}")(_convert)


def _binary(op: str, *names: str) -> None:
    def lower(b: Builder, x: Any, y: Any, *, alpha: Any = 1) -> Value:
        return b.add(op, [x, y], {"alpha": alpha} if alpha != 1 else {})

    places = [f"{where}.{name}" for where in ("torch", "Tensor") for name in names]
    lowers(*places, *(f"Tensor.{name}_" for name in names))(lower)
    lowers(f"_operator.{names[0]}", f"_operator.i{names[0]}")(lower)


_binary("add", "add")
_binary("sub", "sub", "subtract")
_binary("mul", "mul", "multiply")


@lowers("torch.rsub", "Tensor.rsub")
def _rsub(b: Builder, x: Any, y: Any) -> Value:
    return b.add("sub", [y, x])


@lowers("_operator.neg", "torch.neg", "Tensor.neg")
def _neg(b: Builder, x: Value) -> Value:
    return b.add("mul", [x, -1.0])


@lowers("torch.square", "Tensor.square")
def _square(b: Builder, x: Value) -> Value:
    return b.add("mul", [x, x])
