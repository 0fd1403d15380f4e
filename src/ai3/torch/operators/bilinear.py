"""Operators of torch that are linear in each of their first two tensors: how they run on the CPU,
under torch's compiler and its transforms, and how they are differentiated, however often."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import flop_counter

from ai3.torch import device_layer, layer
from ai3.torch.layer import Config

Operator = Callable[[Tensor, Tensor, Any, Config], Tensor]
"""Of two tensors, a third argument, which is a bias that is added or a size, and what the layer is
configured by."""

Gradients = Callable[[Tensor, Sequence[Tensor], Config, Sequence[bool]], tuple[Tensor | None, ...]]
"""Of the result's gradient, the two tensors, the configuration, and which are wanted: those by the
two and by the bias."""

_library = torch.library.Library("ai3", "DEF")


DEVICES = ("CUDA", "XPU", "MPS", "PrivateUse1")
"""The dispatcher's names for devices that a platform may have."""


def bilinear(
    schema: str,
    run_of: Callable[[Any], Operator],
    fake: Callable[..., Tensor],
    gradients: Gradients,
    flops: Callable[..., int],
    *,
    channel: int | None = None,
    folds: float = 4,
) -> Operator:
    """Define an operator. `run_of` makes it of the module whose layers it runs, those of the CPU or
    of devices. With a `channel` its third argument is a bias over that dimension of the
    result, and autocast lowers its tensors as it does torch's own. First tensors that `vmap` maps
    are more of the same batch; `folds` is how many dimensions they may have, 0 where they cannot
    share the second."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    op = getattr(torch.ops.ai3, name)
    tensors = 2 if channel is None else 3

    def kernel(run: Operator) -> Callable[..., Tensor]:
        def on_memory(first: Tensor, second: Tensor, third: Any, *config: Any) -> Tensor:
            third = tuple(third) if channel is None else plain(third)
            return run(plain(first), plain(second), third, _as_tuples(config))

        return on_memory

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.config = _as_tuples(inputs[3:])

    def backward(ctx: Any, cotangent: Tensor) -> Any:
        needs = ctx.needs_input_grad[:tensors]
        found = gradients(cotangent, ctx.saved_tensors, ctx.config, needs)
        return (*found, *[None] * (3 - tensors + len(ctx.config)))

    _library.impl(name, kernel(run_of(layer)), "CPU")
    for device in DEVICES:
        _library.impl(name, kernel(run_of(device_layer)), device)
    torch.library.register_fake(f"ai3::{name}", fake, lib=_library)
    torch.library.register_autograd(
        f"ai3::{name}", backward, setup_context=setup_context, lib=_library
    )
    if channel is not None:
        for device in ("CPU", *DEVICES):
            _library.impl(name, _autocast(op, device), f"Autocast{device}")
    flop_counter.register_flop_formula(op)(flops)
    return _transformable(op, fake, gradients, channel, folds)


def define(
    schema: str,
    run_of: Callable[[Any], Callable[[Tensor], Tensor]],
    fake: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor, Sequence[int]], Tensor],
) -> Any:
    """Define an operator of one tensor; `backward` takes the result's gradient and the shape."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

    def kernel(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda tensor: run(plain(tensor))

    _library.impl(name, kernel(run_of(layer)), "CPU")
    for device in DEVICES:
        _library.impl(name, kernel(run_of(device_layer)), device)
    torch.library.register_fake(f"ai3::{name}", fake, lib=_library)
    torch.library.register_autograd(
        f"ai3::{name}",
        lambda ctx, cotangent: backward(cotangent, ctx.shape),
        setup_context=lambda ctx, inputs, output: setattr(ctx, "shape", inputs[0].shape),
        lib=_library,
    )
    return getattr(torch.ops.ai3, name)


def transformed() -> bool:
    """Whether functorch or forward-mode differentiation is at work, which the dispatcher would not
    take through an operator that is written in Python."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def plain(tensor: Any) -> Any:
    """A tensor whose elements are what lies in its memory."""
    return tensor if tensor is None else tensor.resolve_neg()


def _as_tuples(config: Sequence[Any]) -> Config:
    return tuple(tuple(v) if isinstance(v, list) else v for v in config)


def _transformable(
    op: Any, fake: Callable[..., Tensor], gradients: Gradients, channel: int | None, folds: float
) -> Operator:
    """The operator under whatever mode or transform of torch's is at work."""
    tensors = 2 if channel is None else 3

    def call(first: Tensor, second: Tensor, third: Any, config: Config) -> Tensor:
        if transformed():
            result: Tensor = Function.apply(first, second, third, config)
            return result
        return op(first, second, third, *config)

    class Function(torch.autograd.Function):
        """For functorch and forward mode, which take autograd functions through."""

        @staticmethod
        def forward(first: Tensor, second: Tensor, third: Any, config: Config) -> Tensor:
            # One transform is done: on with the next one, or with the operator.
            if torch._C._are_functorch_transforms_active():
                result: Tensor = Function.apply(first, second, third, config)
                return result
            return op(first, second, third, *config)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            first, second, third, ctx.config = inputs
            ctx.third = third if channel is None else None
            ctx.save_for_backward(first, second)
            ctx.save_for_forward(first, second)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            needs = ctx.needs_input_grad[:tensors]
            found = gradients(grad, ctx.saved_tensors, ctx.config, needs)
            return (*found, *[None] * (4 - tensors))

        @staticmethod
        def jvp(ctx: Any, first: Any, second: Any, third: Any, _: Any) -> Tensor:
            a, b = ctx.saved_tensors
            terms = []
            if first is not None:
                terms.append(call(first, b, ctx.third, ctx.config))
            if second is not None:
                terms.append(call(a, second, ctx.third, ctx.config))
            if third is not None and channel is not None:
                shape = fake(a, b, None, *ctx.config).shape
                terms.append(third[(..., *[None] * (-1 - channel))].expand(shape))
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            return total

        @staticmethod
        def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
            first, second, third, config = arguments
            if folds and in_dims[1] is None and (channel is None or in_dims[2] is None):
                mapped = first.movedim(in_dims[0], 0)
                if mapped.dim() <= folds:
                    return call(mapped, second, third, config), 0
                result = call(mapped.flatten(0, 1), second, third, config)
                return result.unflatten(0, mapped.shape[:2]), 0
            # Each of the mapped elements by itself, as what they are multiplied with is not shared.
            slices = []
            for i in range(info.batch_size):
                taken = [
                    t.select(d, i) if isinstance(d, int) else t
                    for t, d in zip(arguments[:3], in_dims[:3], strict=True)
                ]
                slices.append(call(*taken, config))  # type: ignore[call-arg]
            return torch.stack(slices), 0

    return call


def _autocast(op: Any, device: str) -> Callable[..., Tensor]:
    """As torch's own products have it: what is float32 becomes the lower type."""
    key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device}"))

    def call(*arguments: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(arguments[0].device.type)
        cast = [
            a.to(dtype)
            if isinstance(a, Tensor) and a.is_floating_point() and a.dtype is not torch.float64
            else a
            for a in arguments
        ]
        with torch._C._ExcludeDispatchKeyGuard(key):
            result: Tensor = op(*cast)
            return result

    return call
