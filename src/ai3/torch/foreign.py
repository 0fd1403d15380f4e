"""What the framework does not have, as torch runs it inside a Model."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ai3.torch.stand_ins import mapped


@dataclass(frozen=True)
class Input:
    """The input of this number."""

    index: int


@dataclass(frozen=True)
class Size:
    """The integer, or integers, of this number that depend on shapes."""

    index: int


@dataclass(frozen=True)
class _Operator:
    """One of torch's operators by its name, as itself it cannot be pickled."""

    name: str
    overload: str

    def found(self) -> Any:
        space, _, name = self.name.partition("::")
        return getattr(getattr(getattr(torch.ops, space), name), self.overload)


@dataclass(frozen=True)
class Call:
    """A call that fx traced; `args` and `kwargs` have Inputs and Sizes in their places. Where it
    works `in_place` it does so on a copy."""

    kind: str
    target: Any
    args: Any
    kwargs: Any
    in_place: bool = False

    def __getstate__(self) -> dict[str, Any]:
        target = self.target
        if isinstance(target, torch._ops.OpOverload):
            target = _Operator(target._schema.name, target._overloadname)
        return {**self.__dict__, "target": target}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["target"], _Operator):
            state = {**state, "target": state["target"].found()}
        self.__dict__.update(state)

    def __call__(self, *inputs: Any, sizes: tuple[Any, ...] = ()) -> Any:
        def fill(slot: Input | Size) -> Any:
            return inputs[slot.index] if isinstance(slot, Input) else sizes[slot.index]

        args, kwargs = mapped((self.args, self.kwargs), Input | Size, fill)
        if self.in_place:
            args = (args[0].clone(), *args[1:])
        with torch.no_grad():
            if self.kind == "call_method":
                return getattr(args[0], self.target)(*args[1:], **kwargs)
            return self.target(*args, **kwargs)


def moved(call: Any, device: torch.device) -> Any:
    """The call with its module and tensors on a device."""
    own = copy.deepcopy(call)
    target = own.target.to(device) if isinstance(own.target, nn.Module) else own.target
    args, kwargs = mapped((own.args, own.kwargs), torch.Tensor, lambda t: t.to(device))
    return Call(own.kind, target, args, kwargs, own.in_place)


def copied(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A module of the model's own."""
    own = copy.deepcopy(module)
    return own if dtype is None else own.to(dtype)


def detached(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """A constant of the model's own."""
    own = tensor.detach().clone()
    return own.to(dtype) if dtype is not None and own.is_floating_point() else own
