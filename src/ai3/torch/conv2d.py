"""The swapped convolution: a module that is still an nn.Conv2d, and the operator under it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.weak import WeakIdKeyDictionary

from ai3 import _core

_library = torch.library.Library("ai3", "DEF")
_library.define(
    "conv2d(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, "
    "SymInt[] dilation, SymInt groups, str padding_mode, str algorithm) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)

Config = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, str, str]
"""stride, padding (top, bottom, left, right), dilation, groups, padding_mode, algorithm"""


class Conv2d(nn.Conv2d):
    """An nn.Conv2d that computes by the algorithm named `algorithm`.

    `swap_conv2d` makes one by changing the class of the original object, so whoever refers to that
    goes on doing so, and parameters, hooks and state dict stay what they are.
    """

    algorithm: str

    def forward(self, input: Tensor) -> Tensor:
        # Asking the module for them costs half a microsecond each.
        parameters: dict[str, Any] = self._parameters
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if weight is None:
            weight, bias = self.weight, self.bias
        if not torch.compiler.is_compiling() and _is_plain(input, weight):
            call: _core.Call = self.__dict__.get("_call") or self._make_call()
            if not torch.is_grad_enabled() or not (
                input.requires_grad
                or weight.requires_grad
                or (bias is not None and bias.requires_grad)
            ):
                torch.get_num_threads()  # applies torch.set_num_threads to this thread
                return call.run_with(input, weight, bias, _stamp(weight, bias))
            return _Conv2d.apply(input, weight, bias, self._config, call)
        return torch.ops.ai3.conv2d(input, weight, bias, *self._make_config())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, algorithm={self.algorithm!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _PREPARED}

    def _make_config(self) -> Config:
        return (
            tuple(self.stride),
            border(self),
            tuple(self.dilation),
            self.groups,
            self.padding_mode,
            self.algorithm,
        )

    def _make_call(self) -> _core.Call:
        config = self._make_config()
        call = _make_call(config, self.__dict__.get("_name", ""))
        self.__dict__.update(_config=config, _call=call)
        return call


_PREPARED = ("_call", "_config")
"""What a swapped module holds that can be made again at any time."""


def swap(module: nn.Conv2d, algorithm: str, name: str) -> None:
    """Make the module, whose qualified name is `name`, compute by the algorithm."""
    module.__class__ = Conv2d
    for prepared in _PREPARED:
        module.__dict__.pop(prepared, None)
    module.__dict__.update(algorithm=algorithm, _name=name)


def border(module: nn.Conv2d) -> tuple[int, int, int, int]:
    """The padding as rows and columns at top, bottom, left, right."""
    if module.padding == "valid":
        return (0, 0, 0, 0)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        (top, left), (height, width) = (t // 2 for t in totals), totals
        return (top, height - top, left, width - left)
    vertical, horizontal = map(int, module.padding)
    return (vertical, vertical, horizontal, horizontal)


def _is_plain(input: Tensor, weight: Tensor) -> bool:
    """Whether the tensors are dense CPU memory and nothing watches or transforms the call."""
    return (
        type(input) is Tensor
        and input.layout is torch.strided
        and input.is_cpu
        and weight.is_cpu
        and type(weight) in (nn.Parameter, Tensor)
        and weight.layout is torch.strided
        and not input.is_neg()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and not torch._C._autograd._profiler_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _stamp(weight: Tensor, bias: Tensor | None) -> int | None:
    """A number that moves whenever torch changes the tensors in place; None where it keeps none."""
    if weight.is_inference() or (bias is not None and bias.is_inference()):
        return None
    return weight._version if bias is None else weight._version << 31 ^ bias._version


def _make_call(config: Config, name: str = "") -> _core.Call:
    stride, padding, dilation, groups, padding_mode, algorithm = config
    attributes = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
    }
    return _core.Call("conv2d", attributes, algorithm, name)


_calls: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""weight -> its Call for each configuration, for calls that do not come from a module."""


def _run(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    algorithm: str,
) -> Tensor:
    config = (tuple(stride), tuple(padding), tuple(dilation), groups, padding_mode, algorithm)
    calls = _calls.setdefault(weight, {})
    call = calls.get(config)
    if call is None:
        call = calls[config] = _make_call(config)
    torch.get_num_threads()
    return call.run_with(
        input.resolve_neg(),
        weight.resolve_neg(),
        None if bias is None else bias.resolve_neg(),
        _stamp(weight, bias),
    )


def _output_extent(size: int, kernel: int, pads: int, stride: int, dilation: int) -> int:
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def _fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    algorithm: str,
) -> Tensor:
    torch._check(input.dim() in (3, 4), lambda: f"input must be 3-d or 4-d, not {input.dim()}-d")
    channels = input.shape[-3]
    wanted = weight.shape[1] * groups
    torch._check(
        channels == wanted, lambda: f"input must have {wanted} channels, but has {channels}"
    )
    top, bottom, left, right = padding
    height = _output_extent(input.shape[-2], weight.shape[2], top + bottom, stride[0], dilation[0])
    width = _output_extent(input.shape[-1], weight.shape[3], left + right, stride[1], dilation[1])
    return input.new_empty((*input.shape[:-3], weight.shape[0], height, width))


class _Conv2d(torch.autograd.Function):
    """The convolution with its derivative, which is built of differentiable torch operators."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        config: Config,
        call: _core.Call,
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.config = config
        ctx.has_bias = bias is not None
        torch.get_num_threads()
        return call.run_with(input, weight, bias, _stamp(weight, bias))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _backward(ctx, grad)[:5]


def _gradients(
    grad: Tensor, input: Tensor, weight: Tensor, config: Config, mask: list[bool]
) -> tuple[Tensor | None, ...]:
    stride, padding, dilation, groups, padding_mode, _ = config
    top, bottom, left, right = padding
    batched = input.dim() == 4
    if not batched:
        grad, input = grad.unsqueeze(0), input.unsqueeze(0)
    symmetric = padding_mode == "zeros" and top == bottom and left == right
    padded = input
    if not symmetric:
        mode = "constant" if padding_mode == "zeros" else padding_mode
        padded = nn.functional.pad(input, (left, right, top, bottom), mode=mode)
    grad_input, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad,
        padded,
        weight,
        [weight.shape[0]],
        stride,
        [top, left] if symmetric else [0, 0],
        dilation,
        False,
        [0, 0],
        groups,
        mask,
    )
    if mask[0]:
        if not symmetric:
            grad_input = _unpad(grad_input, input, padding, padding_mode)
        if not batched:
            grad_input = grad_input.squeeze(0)
    return (
        grad_input if mask[0] else None,
        grad_weight if mask[1] else None,
        grad_bias if mask[2] else None,
    )


def _unpad(grad: Tensor, input: Tensor, padding: Sequence[int], mode: str) -> Tensor:
    """The gradient of an image from that of the padded image."""
    top, bottom, left, right = padding
    height, width = input.shape[-2:]
    if mode == "reflect":
        return torch.ops.aten.reflection_pad2d_backward(grad, input, [left, right, top, bottom])
    if mode == "replicate":
        return torch.ops.aten.replication_pad2d_backward(grad, input, [left, right, top, bottom])
    if mode == "circular":
        for dim, before, extent, after in ((-2, top, height, bottom), (-1, left, width, right)):
            grad = _unwrap(grad, dim, before, extent, after)
        return grad
    return grad[..., top : top + height, left : left + width]


def _unwrap(grad: Tensor, dim: int, before: int, extent: int, after: int) -> Tensor:
    """Add what circular padding repeated in one dimension to where it was taken from."""
    head, inner, tail = grad.split([before, extent, after], dim)

    def spread(part: Tensor, start: int, stop: int) -> Tensor:
        pads = (start, stop) if dim == -1 else (0, 0, start, stop)
        return nn.functional.pad(part, pads)

    return inner + spread(head, extent - before, 0) + spread(tail, 0, extent - after)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, stride, padding, dilation, *rest = inputs
    ctx.save_for_backward(input, weight)
    ctx.config = (tuple(stride), tuple(padding), tuple(dilation), *rest)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> Any:
    input, weight = ctx.saved_tensors
    mask = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
    return (*_gradients(grad, input, weight, ctx.config, mask), *[None] * 6)


_library.impl("conv2d", _run, "CPU")
torch.library.register_autograd(
    "ai3::conv2d", _backward, setup_context=_setup_context, lib=_library
)
torch.library.register_fake("ai3::conv2d", _fake, lib=_library)
