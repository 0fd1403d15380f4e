"""What is computed element by element, or is the tensor itself."""

from typing import Any

import torch

from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


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
