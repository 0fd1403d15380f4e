from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

import ai3
from ai3 import _core
from ai3.torch.capture import capture
from ai3.torch.export import ExportTrace
from ai3.torch.trace import Trace


def in_own_dtype(names: list[str]) -> list[str]:
    """Of algorithms those that compute in the dtype of what they are given: not "... bf16", which
    rounds it (test/unit/test_bfloat16.py), nor "sycl ...", which takes one alone
    (test/platforms/test_sycl.py)."""
    return [name for name in names if not name.endswith(" bf16") and not name.startswith("sycl ")]


def assert_close(actual: torch.Tensor, expected: torch.Tensor, algorithm: str = "default") -> None:
    """Largest difference at most some machine epsilons of the largest expected value: what the
    rounding of a whole network adds up to, while one wrong weight is ten thousands."""
    # Winograd's transforms lose some bits, as they do anywhere.
    exact = algorithm not in ("default", "guess", "winograd", "winograd f4", "winograd f6")
    epsilons = 100 if exact else 1000
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    largest = expected.abs().max().item()
    allowed = epsilons * torch.finfo(expected.dtype).eps * largest
    difference = (actual - expected).abs().max().item()
    assert difference <= allowed, f"{difference:.3g} apart, {allowed:.3g} allowed"


def fits(conv: nn.Module, algorithm: str) -> bool:
    """Whether a convolution is one that the algorithm does: Winograd's tiles fit few kernels and
    groups of whole vectors, the Fourier transform none with a stride."""
    assert isinstance(conv, nn.Conv2d)
    if algorithm == "fft":
        return conv.stride == (1, 1)
    if "winograd" not in algorithm:
        return True
    kernels = [(3, 3)] if algorithm == "winograd f6" else [(3, 3), (5, 5)]
    vector = vector_of(_core, torch.float32)
    tails = [n // conv.groups % vector for n in (conv.in_channels, conv.out_channels)]
    plain = conv.stride == conv.dilation == (1, 1) and (conv.groups == 1 or not any(tails))
    return plain and conv.kernel_size in kernels


def vector_of(core: ModuleType, dtype: torch.dtype) -> int:
    """How many channels one vector has."""
    block = core.Spec(str(dtype).removeprefix("torch."), (1, 1, 1, 1), "blocked")
    return int(block.bytes // dtype.itemsize)


def is_too_large(module: nn.Module, algorithm: str) -> bool:
    """Whether a test would take gigabytes: fft holds some 32 numbers for each weight of a 3x3."""
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    weights = sum(conv.weight.numel() for conv in convolutions if conv.stride == (1, 1))
    return algorithm == "fft" and weights > 10_000_000


def met(module: nn.Module, sample: torch.Tensor, kind: type[nn.Module]) -> dict[str, torch.Size]:
    """Names of the modules of a kind, in the order of a forward pass, with their input's shape."""
    found: dict[str, torch.Size] = {}
    names = {layer: name for name, layer in module.named_modules()}

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found.setdefault(names[layer], inputs[0].shape)

    layers = [layer for layer in module.modules() if isinstance(layer, kind)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    with torch.inference_mode():
        module(sample)
    for handle in handles:
        handle.remove()
    return found


class Calls(nn.Module):
    """A function of a tensor that the network computes."""

    def __init__(self, call: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> Any:
        return self.call(x * 1.0)


def converted(net: nn.Module, x: torch.Tensor, tracing: str) -> ai3.Model:
    """The network as a model, traced by "fx" or by "export", no part of which runs in torch; it
    gives for x what the network gives."""
    trace = Trace(net) if tracing == "fx" else ExportTrace(net, x.shape)
    model = ai3.Model.from_graph(capture(trace).graph)
    with torch.no_grad():
        actual, expected = model(x), net(x)
    for one, other in zip(_flat(actual), _flat(expected), strict=True):
        assert one.dtype == other.dtype
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert "torch" not in [node.op for node in model.graph.nodes]
    return model


def _flat(item: Any) -> list[torch.Tensor]:
    return [item] if isinstance(item, torch.Tensor) else [part for i in item for part in _flat(i)]
