"""The modules of torch that `ai3.swap` swaps in place: a class for each kind."""

import sys

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy

from ai3.platforms import why_not_on
from ai3.torch.modules.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ai3.torch.modules.convolution import Conv1d, Conv2d, Conv3d
from ai3.torch.modules.linear import Linear
from ai3.torch.modules.swapped import (
    DTYPES,
    Swapped,
    computes_as,
    freeze,
    original_class,
    swap,
    unswap,
)

__all__ = [
    "DTYPES",
    "KINDS",
    "Conv2d",
    "Swapped",
    "freeze",
    "kind_of",
    "left_alone",
    "original_class",
    "swap",
    "unswap",
]

KINDS: dict[str, type[Swapped]] = {
    kind.kind: kind
    for kind in (
        *(Conv1d, Conv2d, Conv3d),
        *(ConvTranspose1d, ConvTranspose2d, ConvTranspose3d),
        Linear,
    )
}


def kind_of(module: nn.Module) -> type[Swapped] | None:
    """What `swap` would make of the module, or has made; None where it is of no kind, and of those
    that compute in a way of their own."""
    return next((kind for kind in KINDS.values() if computes_as(module, kind)), None)


def left_alone(module: nn.Module, kind: type[Swapped]) -> str:
    """Why a module of a kind cannot be swapped, whatever the algorithm; empty where it can, or is
    of another kind."""
    quantized = sys.modules.get("torch.ao.nn.quantized")
    if quantized is not None and isinstance(module, getattr(quantized, kind.original.__name__)):
        return "it is quantised"
    if not isinstance(module, kind.original):
        return ""
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "the attention that holds it reads its weights and never calls it"
    if not computes_as(module, kind):
        return f"its class {type(module).__qualname__} has a forward of its own"
    if is_lazy(module.weight):  # type: ignore[arg-type]
        return "it is lazy: run the network once, then its weights have shapes"
    device: torch.device = module.weight.device  # type: ignore[assignment]
    if device.type == "cpu":
        return ""
    if why := why_not_on(device.type, kind.layer.op):
        return f"its weights are on {device}, {why}"
    return ""
