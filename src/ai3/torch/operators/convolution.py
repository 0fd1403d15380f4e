"""`ai3::conv2d`, its gradients, and `ai3::conv_transpose2d`.

`conv2d(x, w) + b` and its gradients by `x` and by `w` are each bilinear, and the gradients of each
are the other two: whatever is differentiated, however often, is one of the three again. A
transposed convolution is the second of them with a bias.

A weight may be that of a layer of rows or of volumes, see `kernel_of`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import flop_counter

from ai3.torch.layer import Config, ConvTranspose, kernel_of, layer_of
from ai3.torch.operators.bilinear import bilinear, define, transformed

_GEOMETRY = "SymInt[] dilation, SymInt groups"
_CONFIG = (
    f"SymInt[] stride, SymInt[] padding, {_GEOMETRY}, str padding_mode, "
    "int? memory, str algorithm, str grad_input, str grad_weight"
)


def grad_bias(grad: Tensor) -> Tensor:
    if transformed():
        # What it is by torch's own operators, for which every transform has a rule.
        return grad.sum((-1, -2) if grad.dim() == 3 else (0, 2, 3))
    result: Tensor = _grad_bias(grad)
    return result


# The shapes.


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, *config: Any) -> Tensor:
    stride, padding, dilation, groups, *_ = config
    oc, ic, *kernel = kernel_of(weight).shape
    _check(input, ic * groups)
    top, bottom, left, right = padding

    def extent(axis: int, pads: int) -> int:
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        return (input.shape[axis - 2] + pads - reach) // stride[axis] + 1

    sizes = (extent(0, top + bottom), extent(1, left + right))
    return input.new_empty((*input.shape[:-3], oc, *sizes))


def _fake_grad_input(grad: Tensor, weight: Tensor, size: Sequence[int], *config: Any) -> Tensor:
    return grad.new_empty((*grad.shape[:-3], kernel_of(weight).shape[1] * config[3], *size))


def _fake_grad_weight(grad: Tensor, input: Tensor, kernel: Sequence[int], *config: Any) -> Tensor:
    return grad.new_empty((grad.shape[-3], input.shape[-3] // config[3], *kernel))


def _fake_transpose(input: Tensor, weight: Tensor, bias: Tensor | None, *config: Any) -> Tensor:
    stride, padding, output_padding, dilation, groups, *_ = config
    ic, oc, *kernel = kernel_of(weight).shape
    _check(input, ic)
    sizes = [
        (input.shape[axis - 2] - 1) * stride[axis]
        - 2 * padding[axis]
        + dilation[axis] * (kernel[axis] - 1)
        + output_padding[axis]
        + 1
        for axis in range(2)
    ]
    return input.new_empty((*input.shape[:-3], oc * groups, *sizes))


def _check(input: Tensor, wanted: int) -> None:
    torch._check(input.dim() in (3, 4), lambda: f"input must be 3-d or 4-d, not {input.dim()}-d")
    channels = input.shape[-3]
    torch._check(
        channels == wanted, lambda: f"input must have {wanted} channels, but has {channels}"
    )


# The derivatives.


def conv2d_gradients(
    grad: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    input, weight = saved
    return (
        grad_input(grad, weight, input.shape[-2:], config) if needs[0] else None,
        _grad_weight_like(grad, input, weight, config) if needs[1] else None,
        grad_bias(grad) if needs[2] else None,
    )


def _gradients_of_grad_input(
    cotangent: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    grad, weight = saved
    return (
        conv2d(cotangent, weight, None, config) if needs[0] else None,
        _grad_weight_like(grad, cotangent, weight, config) if needs[1] else None,
    )


def _gradients_of_grad_weight(
    cotangent: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    grad, input = saved
    return (
        conv2d(input, cotangent, None, config) if needs[0] else None,
        grad_input(grad, cotangent, input.shape[-2:], config) if needs[1] else None,
    )


def conv_transpose2d_gradients(
    grad: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    found = _gradients_of_grad_input(grad, saved, ConvTranspose.transposed(config), needs)
    return (*found, grad_bias(grad) if needs[2] else None)


def _grad_weight_like(grad: Tensor, input: Tensor, weight: Tensor, config: Config) -> Tensor:
    kernel = kernel_of(weight).shape[-2:]
    return grad_weight(grad, input, kernel, config).reshape(weight.shape)


# FLOPs, counted as torch counts its own.


def _flops(input: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return flop_counter.conv_flop_count(_four(input), _kernel(weight), _four(out_shape))


def _flops_grad_input(grad: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return flop_counter.conv_flop_count(_four(grad), _kernel(weight), _four(out_shape), True)


def _flops_grad_weight(grad: Any, input: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    def turned(shape: Sequence[int]) -> list[int]:
        return [shape[1], shape[0], *shape[2:]]

    return flop_counter.conv_flop_count(
        turned(_four(input)), turned(_four(grad)), turned(list(out_shape))
    )


def _four(shape: Sequence[int]) -> list[int]:
    return [1] * (4 - len(shape)) + list(shape)


def _kernel(shape: Sequence[int]) -> list[int]:
    return list(kernel_of(torch.empty(shape, device="meta")).shape)


# The operators.

conv2d = bilinear(
    f"conv2d(Tensor input, Tensor weight, Tensor? bias, {_CONFIG}) -> Tensor",
    lambda on: lambda x, w, b, config: layer_of(w, on.Convolution, config).run(x, w, b),
    _fake,
    conv2d_gradients,
    _flops,
    channel=-3,
)
grad_input = bilinear(
    f"conv2d_grad_input(Tensor grad, Tensor weight, SymInt[] input_size, {_CONFIG}) -> Tensor",
    lambda on: (
        lambda g, w, size, config: layer_of(w, on.Convolution, config).run_grad_input(g, w, size)
    ),
    _fake_grad_input,
    _gradients_of_grad_input,
    _flops_grad_input,
)
grad_weight = bilinear(
    f"conv2d_grad_weight(Tensor grad, Tensor input, SymInt[] kernel_size, {_CONFIG}) -> Tensor",
    lambda on: (
        lambda g, x, kernel, config: on.weightless_layer(config).run_grad_weight(g, x, kernel)
    ),
    _fake_grad_weight,
    _gradients_of_grad_weight,
    _flops_grad_weight,
    folds=0,
)
_grad_bias = define(
    "conv2d_grad_bias(Tensor grad) -> Tensor",
    lambda on: on.Convolution.grad_bias,
    lambda grad: grad.new_empty(grad.shape[-3]),
    lambda cotangent, shape: cotangent[:, None, None].expand(shape),
)
conv_transpose2d = bilinear(
    "conv_transpose2d(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, "
    f"SymInt[] padding, SymInt[] output_padding, {_GEOMETRY}, int? memory, str algorithm"
    ") -> Tensor",
    lambda on: lambda x, w, b, config: layer_of(w, on.ConvTranspose, config).run(x, w, b),
    _fake_transpose,
    conv_transpose2d_gradients,
    _flops_grad_input,
    channel=-3,
)
