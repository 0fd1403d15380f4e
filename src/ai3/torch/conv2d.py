"""The swapped convolution: a module that is still an nn.Conv2d."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

from ai3 import _core
from ai3.selector import Conv2dAlgorithms
from ai3.torch import operator
from ai3.torch.layer import Config, Layer, run_grad_bias


class Conv2d(nn.Conv2d):
    """An nn.Conv2d that computes by the algorithm named `algorithm`, and its gradients by
    `grad_input` and `grad_weight`.

    `swap` makes one by changing the class of the original object, so whoever refers to that goes on
    doing so, and parameters, hooks and state dict stay what they are.
    """

    algorithm: str
    grad_input: str
    grad_weight: str

    def forward(self, input: Tensor) -> Tensor:
        # Asking the module for them costs half a microsecond each.
        parameters: dict[str, Any] = self._parameters
        try:
            weight, bias = parameters["weight"], parameters["bias"]
        except KeyError:  # parametrised, pruned
            weight, bias = self.weight, self.bias
        if torch.compiler.is_compiling():
            return operator.conv2d(input, weight, bias, self._config())
        if _is_plain(input, weight):
            layer: Layer = self.__dict__.get("_layer") or self._make_layer()
            if torch.is_grad_enabled() and (
                weight.requires_grad
                or input.requires_grad
                or (bias is not None and bias.requires_grad)
            ):
                return _apply_training(input, weight, bias, layer)
            return layer.run(input, weight, bias)
        if torch._C._autograd._profiler_enabled():
            with torch.profiler.record_function(self._label(input, weight, bias)):
                return operator.conv2d(input, weight, bias, self._config())
        return operator.conv2d(input, weight, bias, self._config())

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, algorithm={self.algorithm!r}"
        for name in ("grad_input", "grad_weight"):
            if (algorithm := getattr(self, name)) != "default":
                text += f", {name}={algorithm!r}"
        return text

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _CONFIGURING:
            self.__dict__.pop("_layer", None)

    def __getstate__(self) -> dict[str, Any]:
        # An own __getstate__ of the original's class may refuse.
        own = getattr(super(), "__getstate__", None)
        state = self.__dict__ if own is None else own()
        return {name: value for name, value in state.items() if name != "_layer"}

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The classes made by _swapped_class have no name to be found by.
        if type(self) is Conv2d:
            return super().__reduce_ex__(protocol)
        return _blank, (original_class(self),), self.__getstate__()

    def _config(self) -> Config:
        return (
            tuple(self.stride),
            border(self),
            tuple(self.dilation),
            self.groups,
            self.padding_mode,
            self.algorithm,
            self.grad_input,
            self.grad_weight,
        )

    def _make_layer(self) -> Layer:
        state = self.__dict__
        layer = Layer(self._config(), state.get("_name", ""), state.get("_frozen", False))
        self.__dict__["_layer"] = layer
        return layer

    def _label(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> str:
        """What the profiler shows beside the operator's own name."""
        algorithm = self.algorithm
        if algorithm == "default" and type(input) is Tensor:
            algorithm = f"default: {resolved(self, tuple(input.shape))}"
        return f"ai3::conv2d[{algorithm}] {self.__dict__.get('_name', '')}".rstrip()


_ALGORITHMS = ("algorithm", "grad_input", "grad_weight")
_CONFIGURING = {"stride", "padding", "dilation", "groups", "padding_mode", *_ALGORITHMS}
_ADDED = (*_ALGORITHMS, "_name", "_why", "_layer", "_frozen")
"""What a swapped module holds that the original does not."""


def swap(module: nn.Conv2d, algorithms: Conv2dAlgorithms, name: str, why: str) -> None:
    """Make the module, whose qualified name is `name`, compute by the algorithms."""
    kind = type(module)
    if not isinstance(module, Conv2d):
        module.__class__ = _with_base(module, _swapped_class(_base(kind, module)))
    freeze(module, False)
    module.__dict__.update(
        algorithm=algorithms.forward,
        grad_input=algorithms.grad_input,
        grad_weight=algorithms.grad_weight,
        _name=name,
        _why=why,
    )


def freeze(module: nn.Conv2d, frozen: bool) -> None:
    """Whether the module trusts that its weight changes only in ways that torch counts."""
    module.__dict__.pop("_layer", None)
    module.__dict__["_frozen"] = frozen


def unswap(module: Conv2d) -> None:
    """Make the module again what it was before `swap`."""
    module.__class__ = _with_base(module, original_class(module))
    for name in _ADDED:
        module.__dict__.pop(name, None)


def original_class(module: Conv2d) -> type[nn.Conv2d]:
    """The class that the module had before it was swapped, parametrisation left aside."""
    base = _base(type(module), module)
    return nn.Conv2d if base is Conv2d else base.__bases__[1]


def is_conv2d(module: nn.Module) -> bool:
    """Whether the module computes as nn.Conv2d does: that itself, or a subclass which changes
    neither `forward` nor what it calls."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward in (nn.Conv2d.forward, Conv2d.forward)
        and type(module)._conv_forward is nn.Conv2d._conv_forward
    )


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


def attributes(module: nn.Conv2d) -> dict[str, Any]:
    """The module's hyper-parameters as the core takes them."""
    return {
        "stride": tuple(module.stride),
        "padding": border(module),
        "dilation": tuple(module.dilation),
        "groups": module.groups,
        "padding_mode": module.padding_mode,
    }


def resolved(module: Conv2d, shape: Sequence[int]) -> str:
    """The algorithm that runs for an input of a shape, which 'default' leaves open."""
    tensors = [module.weight, module.bias]
    weights = _core.Weights.of([t if t is None else t.detach().float() for t in tensors], False)
    problem = _core.problem("conv2d", [_core.Spec("float32", shape)], weights, attributes(module))
    return problem.resolve(module.algorithm)


def _base(kind: type, module: nn.Module) -> Any:
    """The module's class without what torch's parametrisation puts before it."""
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def _with_base(module: nn.Module, base: type) -> type:
    """The class `base`, parametrised as the module's is."""
    kind = type(module)
    if not parametrize.is_parametrized(module):
        return base
    own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
    return type(kind.__name__, (base,), own)


@cache
def _swapped_class(kind: Any) -> type[nn.Conv2d]:
    if kind is nn.Conv2d:
        return Conv2d
    return type(kind.__name__, (Conv2d, kind), {"__module__": kind.__module__})


def _blank(original: Any) -> nn.Conv2d:
    kind = _swapped_class(original)
    return kind.__new__(kind)


def _is_plain(input: Tensor, weight: Tensor) -> bool:
    """Whether the tensors are memory that the core can read and nothing watches or transforms the
    call. Checks which the core makes again are left to it: each costs a hundredth of a call."""
    return (
        type(input) is Tensor
        and type(weight) in _DENSE_TYPES
        and weight.is_cpu
        and not input.is_neg()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and not torch._C._autograd._profiler_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


_DENSE_TYPES = (nn.Parameter, Tensor)


class _Training(torch.autograd.Function):
    """The convolution where nothing but autograd takes part."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.layer = layer
        return layer.run(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        input, weight = ctx.saved_tensors
        needs, layer = ctx.needs_input_grad, ctx.layer
        if (
            torch.is_grad_enabled()
            or not _is_plain(grad, weight)
            or torch._C._functorch.is_legacy_batchedtensor(grad)
        ):
            return (*operator.conv2d_backward(grad, (input, weight), layer.config, needs), None)
        return (
            layer.run_grad_input(grad, weight, input.shape[-2:]) if needs[0] else None,
            layer.run_grad_weight(grad, input, weight.shape[-2:]) if needs[1] else None,
            run_grad_bias(grad) if needs[2] else None,
            None,
        )


# Function.apply without its search for functorch's wrappers, of which _is_plain knows.
_apply_training = torch._C._FunctionBase.__dict__["apply"].__get__(None, _Training)
