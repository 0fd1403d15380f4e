"""The operators `ai3::conv2d` and its gradients, as torch's dispatcher knows them.

`conv2d(x, w) + b` and its gradients by `x` and by `w` are each bilinear, and the gradients of each
are the other two: whatever is differentiated, however often, is one of the three again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import flop_counter

from ai3.torch.layer import Config, layer_of, run_grad_bias, weightless_layer

_CONFIG = (
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, str padding_mode, "
    "str algorithm, str grad_input, str grad_weight"
)
_library = torch.library.Library("ai3", "DEF")
for _schema in (
    f"conv2d(Tensor input, Tensor weight, Tensor? bias, {_CONFIG}) -> Tensor",
    f"conv2d_grad_input(Tensor grad, Tensor weight, SymInt[] input_size, {_CONFIG}) -> Tensor",
    f"conv2d_grad_weight(Tensor grad, Tensor input, SymInt[] kernel_size, {_CONFIG}) -> Tensor",
    "conv2d_grad_bias(Tensor grad) -> Tensor",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
_ops = torch.ops.ai3


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, config: Config) -> Tensor:
    """The convolution, under whatever mode or transform of torch's is at work."""
    if _transformed():
        return _Conv2d.apply(input, weight, bias, config)
    return _ops.conv2d(input, weight, bias, *config)


def grad_input(grad: Tensor, weight: Tensor, size: Sequence[int], config: Config) -> Tensor:
    if _transformed():
        return _GradInput.apply(grad, weight, size, config)
    return _ops.conv2d_grad_input(grad, weight, size, *config)


def grad_weight(grad: Tensor, input: Tensor, kernel: Sequence[int], config: Config) -> Tensor:
    if _transformed():
        return _GradWeight.apply(grad, input, kernel, config)
    return _ops.conv2d_grad_weight(grad, input, kernel, *config)


def grad_bias(grad: Tensor) -> Tensor:
    if _transformed():
        # What it is by torch's own operators, for which every transform has a rule.
        return grad.sum((-1, -2) if grad.dim() == 3 else (0, 2, 3))
    return _ops.conv2d_grad_bias(grad)


def _transformed() -> bool:
    """Whether functorch or forward-mode differentiation is at work, which the dispatcher would not
    take through an operator that is written in Python."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


# What runs on the CPU.


def _run(input: Tensor, weight: Tensor, bias: Tensor | None, *config: Any) -> Tensor:
    return layer_of(weight, _as_tuples(config)).run(_plain(input), _plain(weight), _plain(bias))


def _run_grad_input(grad: Tensor, weight: Tensor, size: Sequence[int], *config: Any) -> Tensor:
    layer = layer_of(weight, _as_tuples(config))
    return layer.run_grad_input(_plain(grad), _plain(weight), tuple(size))


def _run_grad_weight(grad: Tensor, input: Tensor, kernel: Sequence[int], *config: Any) -> Tensor:
    layer = weightless_layer(_as_tuples(config))
    return layer.run_grad_weight(_plain(grad), _plain(input), tuple(kernel))


def _run_grad_bias(grad: Tensor) -> Tensor:
    return run_grad_bias(_plain(grad))


def _plain(tensor: Any) -> Any:
    """A tensor whose elements are what lies in its memory."""
    return tensor if tensor is None else tensor.resolve_neg()


# The shapes.


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, *config: Any) -> Tensor:
    stride, padding, dilation, groups, *_ = config
    torch._check(input.dim() in (3, 4), lambda: f"input must be 3-d or 4-d, not {input.dim()}-d")
    channels, wanted = input.shape[-3], weight.shape[1] * groups
    torch._check(
        channels == wanted, lambda: f"input must have {wanted} channels, but has {channels}"
    )
    top, bottom, left, right = padding

    def extent(axis: int, pads: int) -> int:
        reach = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        return (input.shape[axis - 2] + pads - reach) // stride[axis] + 1

    sizes = (extent(0, top + bottom), extent(1, left + right))
    return input.new_empty((*input.shape[:-3], weight.shape[0], *sizes))


def _fake_grad_input(grad: Tensor, weight: Tensor, size: Sequence[int], *config: Any) -> Tensor:
    return grad.new_empty((*grad.shape[:-3], weight.shape[1] * config[3], *size))


def _fake_grad_weight(grad: Tensor, input: Tensor, kernel: Sequence[int], *config: Any) -> Tensor:
    return grad.new_empty((grad.shape[-3], input.shape[-3] // config[3], *kernel))


def _fake_grad_bias(grad: Tensor) -> Tensor:
    return grad.new_empty(grad.shape[-3])


# The derivatives.


def conv2d_backward(
    grad: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    input, weight = saved
    return (
        grad_input(grad, weight, input.shape[-2:], config) if needs[0] else None,
        grad_weight(grad, input, weight.shape[-2:], config) if needs[1] else None,
        grad_bias(grad) if needs[2] else None,
    )


def _grad_input_backward(
    cotangent: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    grad, weight = saved
    return (
        conv2d(cotangent, weight, None, config) if needs[0] else None,
        grad_weight(grad, cotangent, weight.shape[-2:], config) if needs[1] else None,
    )


def _grad_weight_backward(
    cotangent: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    grad, input = saved
    return (
        conv2d(input, cotangent, None, config) if needs[0] else None,
        grad_input(grad, cotangent, input.shape[-2:], config) if needs[1] else None,
    )


def _register_autograd(name: str, backward_of: Callable[..., Any], tensors: int) -> None:
    """`backward_of` a cotangent gives the gradients of the first arguments, which are `tensors`."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.config = _as_tuples(inputs[-8:])
        ctx.others = len(inputs) - tensors

    def backward(ctx: Any, cotangent: Tensor) -> Any:
        needs = ctx.needs_input_grad[:tensors]
        found = backward_of(cotangent, ctx.saved_tensors, ctx.config, needs)
        return (*found, *[None] * ctx.others)

    torch.library.register_autograd(name, backward, setup_context=setup_context, lib=_library)


def _as_tuples(config: Sequence[Any]) -> Config:
    return tuple(tuple(v) if isinstance(v, list) else v for v in config)  # type: ignore[return-value]


def _each(function: Callable[..., Tensor], info: Any, in_dims: Any, *tensors: Any) -> Any:
    """Call for each of the mapped elements by itself, as their weights are not shared."""
    slices = []
    for i in range(info.batch_size):
        taken = [t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims, strict=True)]
        slices.append(function(*taken))
    return torch.stack(slices), 0


def _folded(function: Callable[[Tensor], Tensor], tensor: Tensor, dim: int) -> tuple[Tensor, int]:
    """Call with what is mapped as images of one batch."""
    tensor = tensor.movedim(dim, 0)
    if tensor.dim() == 4:
        return function(tensor), 0
    sizes = tensor.shape[:2]
    return function(tensor.flatten(0, 1)).unflatten(0, sizes), 0


def _below(function: Any, op: Any, *arguments: Any) -> Tensor:
    """The call with one transform done: by the next one, or by the operator."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    return op(*arguments[:-1], *arguments[-1])


class _Conv2d(torch.autograd.Function):
    """For functorch and forward mode, which take autograd functions through."""

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, config: Config) -> Tensor:
        return _below(_Conv2d, _ops.conv2d, input, weight, bias, config)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, ctx.config = inputs
        ctx.save_for_backward(input, weight)
        ctx.save_for_forward(input, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        needs = ctx.needs_input_grad
        return (*conv2d_backward(grad, ctx.saved_tensors, ctx.config, needs), None)

    @staticmethod
    def jvp(ctx: Any, input: Any, weight: Any, bias: Any, _: Any) -> Tensor:
        x, w = ctx.saved_tensors
        terms = []
        if input is not None:
            terms.append(conv2d(input, w, None, ctx.config))
        if weight is not None:
            terms.append(conv2d(x, weight, None, ctx.config))
        if bias is not None:
            shape = _fake(x, w, None, *ctx.config).shape
            terms.append(bias[:, None, None].expand(shape))
        return _total(terms)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        input, weight, bias, config = arguments
        if in_dims[1] is None and in_dims[2] is None:
            return _folded(lambda x: conv2d(x, weight, bias, config), input, in_dims[0])
        return _each(
            lambda x, w, b: conv2d(x, w, b, config), info, in_dims[:3], input, weight, bias
        )


def _gradient(
    op: Any,
    of: Callable[..., Tensor],
    backward_of: Callable[..., tuple[Tensor | None, ...]],
    *,
    folds: bool,
) -> type[torch.autograd.Function]:
    """The same for a gradient `of(grad, other, size, config)`. Where it `folds`, mapped gradients
    that share the other tensor are images of one batch."""

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(grad: Tensor, other: Tensor, size: Sequence[int], config: Config) -> Tensor:
            return _below(Gradient, op, grad, other, size, config)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            grad, other, ctx.size, ctx.config = inputs
            ctx.save_for_backward(grad, other)
            ctx.save_for_forward(grad, other)

        @staticmethod
        def backward(ctx: Any, cotangent: Tensor) -> Any:
            needs = ctx.needs_input_grad
            return (*backward_of(cotangent, ctx.saved_tensors, ctx.config, needs), None, None)

        @staticmethod
        def jvp(ctx: Any, grad: Any, other: Any, *_: Any) -> Tensor:
            g, o = ctx.saved_tensors
            terms = []
            if grad is not None:
                terms.append(of(grad, o, ctx.size, ctx.config))
            if other is not None:
                terms.append(of(g, other, ctx.size, ctx.config))
            return _total(terms)

        @staticmethod
        def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
            grad, other, size, config = arguments
            if folds and in_dims[1] is None:
                return _folded(lambda g: of(g, other, size, config), grad, in_dims[0])
            return _each(lambda g, o: of(g, o, size, config), info, in_dims[:2], grad, other)

    return Gradient


_GradInput = _gradient(_ops.conv2d_grad_input, grad_input, _grad_input_backward, folds=True)
_GradWeight = _gradient(_ops.conv2d_grad_weight, grad_weight, _grad_weight_backward, folds=False)


def _total(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


# Autocast, as torch's own convolution has it: what is float32 becomes the lower type.


def _autocast(op: Any) -> Callable[..., Tensor]:
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def call(*arguments: Any) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu")
        cast = [
            a.to(dtype)
            if isinstance(a, Tensor) and a.is_floating_point() and a.dtype is not torch.float64
            else a
            for a in arguments
        ]
        with torch._C._ExcludeDispatchKeyGuard(key):
            return op(*cast)

    return call


# FLOPs, counted as torch counts its own.


def _flops(input: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return flop_counter.conv_flop_count(_four(input), list(weight), _four(out_shape))


def _flops_grad_input(grad: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return flop_counter.conv_flop_count(_four(grad), list(weight), _four(out_shape), True)


def _flops_grad_weight(grad: Any, input: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    def turned(shape: Sequence[int]) -> list[int]:
        return [shape[1], shape[0], *shape[2:]]

    return flop_counter.conv_flop_count(
        turned(_four(input)), turned(_four(grad)), turned(list(out_shape))
    )


def _four(shape: Sequence[int]) -> list[int]:
    return [1] * (4 - len(shape)) + list(shape)


_library.impl("conv2d", _run, "CPU")
_library.impl("conv2d_grad_input", _run_grad_input, "CPU")
_library.impl("conv2d_grad_weight", _run_grad_weight, "CPU")
_library.impl("conv2d_grad_bias", _run_grad_bias, "CPU")
torch.library.register_fake("ai3::conv2d", _fake, lib=_library)
torch.library.register_fake("ai3::conv2d_grad_input", _fake_grad_input, lib=_library)
torch.library.register_fake("ai3::conv2d_grad_weight", _fake_grad_weight, lib=_library)
torch.library.register_fake("ai3::conv2d_grad_bias", _fake_grad_bias, lib=_library)
_register_autograd("ai3::conv2d", conv2d_backward, 3)
_register_autograd("ai3::conv2d_grad_input", _grad_input_backward, 2)
_register_autograd("ai3::conv2d_grad_weight", _grad_weight_backward, 2)
torch.library.register_autograd(
    "ai3::conv2d_grad_bias",
    lambda ctx, cotangent: cotangent[:, None, None].expand(ctx.shape),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "shape", inputs[0].shape),
    lib=_library,
)
_library.impl("conv2d", _autocast(_ops.conv2d), "AutocastCPU")
flop_counter.register_flop_formula(_ops.conv2d)(_flops)
flop_counter.register_flop_formula(_ops.conv2d_grad_input)(_flops_grad_input)
flop_counter.register_flop_formula(_ops.conv2d_grad_weight)(_flops_grad_weight)
