"""Each operation by itself: every algorithm against torch's best layout of the same work."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import nn

import ai3
from ai3 import _core, layers
from ai3.errors import UnsupportedAlgorithmError
from ai3.validation import shapes
from bench.case import Case, algorithms_of
from bench.layers import functions, gradients

Call = Callable[[], object]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """A torch module, the shape it is given, and the layer that does the same by an algorithm."""

    shape: Shape
    module: nn.Module
    layer: Callable[[str], layers.Layer]
    name: str
    flops: int = 0
    times: int = 1


def cases(name: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    """Those of an operation, or of a set of convolutions in `SETS`: 'resnet18' forward,
    'conv2d_grad_input, resnet18' a gradient."""
    if name == "call_overhead":
        yield from _call_overhead(algorithms)
        return
    gradient, _, of = name.partition(", ")
    if gradient in gradients.NAMES:
        yield from gradients.cases(gradient, name, SETS[of or "seeds"], algorithms)
        return
    if name in functions.WORK:
        yield from functions.cases(name, algorithms)
        return
    op = "conv2d" if name in SETS else name
    for work in _convolutions(name) if name in SETS else _WORK[name]():
        sample = torch.randn(work.shape)
        with torch.inference_mode():
            torch_sides = dict(_torch_layouts(work.module.eval(), sample))
            output = work.module(sample)
        chosen = {algorithm: work.layer(algorithm) for algorithm in algorithms_of(op, algorithms)}
        sides = torch_sides | {
            algorithm: _inference(layer, sample)
            for algorithm, layer in chosen.items()
            if not _refusal(layer, sample)
        }
        moved = 0 if name == "flatten" else 4 * (sample.numel() + output.numel())
        exact = partial(_in_double, work.module, sample)
        baseline = tuple(torch_sides)
        yield Case(name, work.name, sides, baseline, work.flops, moved, exact, work.times)


def _refusal(layer: layers.Layer, sample: torch.Tensor) -> str:
    spec = _core.Spec("float32", tuple(sample.shape))
    problem = _core.problem(layer.op, [spec], _core.Weights.of(layer.weights), layer.attributes)
    return problem.refusal(layer.algorithm)


@torch.inference_mode()
def _in_double(module: nn.Module, sample: torch.Tensor) -> torch.Tensor:
    result = copy.deepcopy(module).double()(sample.double())
    assert isinstance(result, torch.Tensor)
    return result


def _torch_layouts(module: nn.Module, sample: torch.Tensor) -> Iterator[tuple[str, Call]]:
    """The module on the layouts that torch has for it."""
    from torch.utils import mkldnn  # compiles TorchScript and warns of that

    yield "torch", _inference(module, sample)
    if sample.dim() == 4 and not isinstance(module, nn.Flatten):
        last = torch.channels_last
        moved = copy.deepcopy(module).to(memory_format=last)
        yield "torch channels_last", _inference(moved, sample.to(memory_format=last))
    with suppress(RuntimeError):  # not all operations, nor all shapes, exist there
        packed, opaque = mkldnn.to_mkldnn(copy.deepcopy(module)), sample.to_mkldnn()
        packed(opaque)
        yield "torch mkldnn", _inference(packed, opaque)


def _inference(run: Callable[[torch.Tensor], object], sample: torch.Tensor) -> Call:
    @torch.inference_mode()
    def call() -> object:
        return run(sample)

    return call


def _convolutions(name: str) -> Iterator[Work]:
    batch, convs = SETS[name]
    for conv in convs:
        weight = (conv.OC, conv.IC // conv.groups, conv.KH, conv.KW)
        module = nn.Conv2d(conv.IC, conv.OC, weight[2:], **conv.attributes)
        # As a trained network has them: outputs are of order 1.
        nn.init.normal_(module.weight, std=prod(weight[1:]) ** -0.5)

        def layer(
            algorithm: str, module: nn.Conv2d = module, conv: shapes.Conv = conv
        ) -> layers.Conv2D:
            return layers.Conv2D(module.weight, module.bias, **conv.attributes, algorithm=algorithm)

        shape = (batch, conv.IC, conv.IH, conv.IW)
        yield Work(shape, module, layer, str(conv), batch * conv.flops, conv.times)


def _linear() -> Iterator[Work]:
    for shape, features in (((1, 25088), 4096), ((10, 4096), 4096), ((64, 512), 1000)):
        linear = nn.Linear(shape[1], features)

        def layer(algorithm: str, linear: nn.Linear = linear) -> layers.Linear:
            return layers.Linear(linear.weight, linear.bias, algorithm=algorithm)

        flops = 2 * prod(shape) * features
        yield Work(shape, linear, layer, f"{_text(shape)}, to {features}", flops)


def _maxpool2d() -> Iterator[Work]:
    for shape, kernel, stride, padding in (
        ((10, 64, 224, 224), 2, 2, 0),
        ((10, 64, 112, 112), 3, 2, 1),
        ((10, 256, 28, 28), 3, 1, 1),
    ):
        arguments = (kernel, stride, padding)

        def layer(algorithm: str, arguments: Shape = arguments) -> layers.MaxPool2D:
            return layers.MaxPool2D(*arguments, algorithm=algorithm)

        yield Work(shape, nn.MaxPool2d(*arguments), layer, _pooling(shape, *arguments))


def _avgpool2d() -> Iterator[Work]:
    for shape, kernel, stride, padding in (
        ((10, 64, 112, 112), 2, 2, 0),
        ((10, 256, 28, 28), 3, 1, 1),
    ):
        arguments = (kernel, stride, padding)

        def layer(algorithm: str, arguments: Shape = arguments) -> layers.AvgPool2D:
            return layers.AvgPool2D(*arguments, algorithm=algorithm)

        yield Work(shape, nn.AvgPool2d(*arguments), layer, _pooling(shape, *arguments))


def _adaptiveavgpool2d() -> Iterator[Work]:
    for shape, size in (((10, 512, 14, 14), 7), ((10, 512, 7, 7), 1), ((10, 256, 13, 13), 6)):

        def layer(algorithm: str, size: int = size) -> layers.AdaptiveAvgPool2D:
            return layers.AdaptiveAvgPool2D(size, algorithm=algorithm)

        yield Work(shape, nn.AdaptiveAvgPool2d(size), layer, f"{_text(shape)}, to {size}x{size}")


def _relu() -> Iterator[Work]:
    for shape in ((10, 64, 112, 112), (10, 512, 14, 14), (10, 4096)):
        yield Work(shape, nn.ReLU(), lambda algorithm: layers.ReLU(algorithm), _text(shape))


def _flatten() -> Iterator[Work]:
    for shape in ((10, 512, 7, 7), (10, 64, 112, 112)):
        flatten = nn.Flatten()
        yield Work(
            shape, flatten, lambda algorithm: layers.Flatten(algorithm=algorithm), _text(shape)
        )


def _call_overhead(algorithms: Iterable[str] | None) -> Iterator[Case]:
    """A convolution that is next to no work, swapped, against `nn.Conv2d` itself."""
    sample = torch.randn(1, 16, 4, 4)
    conv = nn.Conv2d(16, 16, kernel_size=1)
    swapped = {}
    for algorithm in algorithms_of("conv2d", algorithms):
        network = nn.Sequential(copy.deepcopy(conv))
        with suppress(UnsupportedAlgorithmError):
            ai3.swap_conv2d(network, algorithm)
            swapped[algorithm] = network[0]

    modules = {"nn.Conv2d": conv} | swapped
    for mode, wrap in (("inference mode", _inference), ("with gradients", _gradients)):
        sides = {name: wrap(module, sample) for name, module in modules.items()}
        yield Case(
            "call_overhead", f"{_text(sample.shape)}, 16 of 1x1, {mode}", sides, ("nn.Conv2d",)
        )


def _gradients(run: Callable[[torch.Tensor], object], sample: torch.Tensor) -> Call:
    return lambda: run(sample)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _pooling(shape: Shape, kernel: int, stride: int, padding: int) -> str:
    return f"{_text(shape)}, {kernel}x{kernel} stride {stride} padding {padding}"


SETS = shapes.load()
_WORK: dict[str, Callable[[], Iterator[Work]]] = {
    "conv2d": partial(_convolutions, "seeds"),
    "linear": _linear,
    "maxpool2d": _maxpool2d,
    "avgpool2d": _avgpool2d,
    "adaptiveavgpool2d": _adaptiveavgpool2d,
    "relu": _relu,
    "flatten": _flatten,
}
NAMES = (*_WORK, *gradients.NAMES, *functions.WORK, "call_overhead")
OVER_SETS = ("conv2d", *gradients.NAMES)
"""The operations that a set of `SETS` is measured with."""
