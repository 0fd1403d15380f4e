"""The gradients of convolutions as a training step takes them, so that a weight has changed since
the last call, against `torch.ops.aten.convolution_backward`."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod

import torch
from torch import Tensor

from ai3 import _core
from ai3.validation.shapes import Conv, ShapeSet
from bench.case import Case, algorithms_of

NAMES = ("conv2d_grad_input", "conv2d_grad_weight")


def cases(
    op: str, group: str, shapes: ShapeSet, algorithms: Iterable[str] | None
) -> Iterator[Case]:
    by_input = op == "conv2d_grad_input"
    for conv in shapes.convs:
        shape = (shapes.batch, conv.IC, conv.IH, conv.IW)
        kernel = (conv.OC, conv.IC // conv.groups, conv.KH, conv.KW)
        x, weight = torch.randn(shape), torch.randn(kernel) * prod(kernel[1:]) ** -0.5
        grad = torch.randn_like(torch.nn.functional.conv2d(x, weight, **conv.attributes))
        mask = (by_input, not by_input, False)
        by_torch = partial(_by_torch, conv, mask)
        last = [t.to(memory_format=torch.channels_last) for t in (grad, x, weight)]
        sides: dict[str, Callable[[], object]] = {
            "torch": partial(by_torch, grad, x, weight),
            "torch channels_last": partial(by_torch, *last),
        }
        if by_input:
            attributes = {**conv.attributes, "input_size": shape[-2:]}
            specs, weights = [_core.Spec("float32", tuple(grad.shape))], [weight]
        else:
            attributes = {**conv.attributes, "kernel_size": kernel[-2:]}
            specs = [_core.Spec("float32", tuple(t.shape)) for t in (x, grad)]
            weights = []
        problem = _core.problem(op, specs, _core.Weights.of(weights), attributes)
        for algorithm in algorithms_of(op, algorithms):
            if not problem.refusal(algorithm):
                call = _core.Call(op, attributes, algorithm)
                sides[algorithm] = (
                    partial(call.run_with, grad, weight, None, None)
                    if by_input
                    else partial(call, x, grad)
                )
        exact = partial(by_torch, grad.double(), x.double(), weight.double())
        flops = shapes.batch * conv.flops
        yield Case(group, str(conv), sides, tuple(sides)[:2], flops, 0, exact, conv.times)


def _by_torch(
    conv: Conv, mask: tuple[bool, bool, bool], grad: Tensor, x: Tensor, weight: Tensor
) -> Tensor:
    stride, padding, dilation = ([n, n] for n in (conv.stride, conv.padding, conv.dilation))
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, [0, 0], conv.groups, mask
    )
    return next(gradient for gradient in found if gradient is not None)
