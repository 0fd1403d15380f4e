"""What all modules that are swapped in place have in common."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

from ai3 import _core
from ai3.platforms import algorithms_on, no_such, platform_of
from ai3.platforms.task import Array, Task
from ai3.selector import Choice
from ai3.torch.device_layer import ON_DEVICE, OnDevice, array_of
from ai3.torch.layer import Config, Layer, kernel_of, layer_of
from ai3.torch.operators.bilinear import Gradients

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float32",
}
"""Of weights: what the CPU computes with."""

Asked: TypeAlias = _core.Problem | Task
"""What algorithms are asked of, on the CPU or on a device."""


class Swapped(nn.Module):
    """A module that computes by the algorithm named `algorithm`.

    `swap` makes one by changing the class of the original object, so whoever refers to that goes on
    doing so, and parameters, hooks and state dict stay what they are.
    """

    kind: ClassVar[str]
    """The operation, as selectors name it."""
    original: ClassVar[type[nn.Module]]
    parts: ClassVar[tuple[str, ...]] = ()
    """The methods that the original's forward calls."""
    configuring: ClassVar[frozenset[str]] = frozenset({"algorithm"})
    """What the configuration depends on."""
    layer: ClassVar[type[Layer]]
    operator: ClassVar[Callable[..., Tensor]]
    """An `Operator`."""
    gradients: ClassVar[Callable[..., Any]]
    """Its `Gradients`."""

    algorithm: str

    def configure(self, choice: Any) -> None:
        """Take what a selector chose."""
        self.__dict__["algorithm"] = choice

    def config(self) -> Config:
        return (*self.attributes(self).values(), self.__dict__.get("_memory"), self.algorithm)

    @classmethod
    def attributes(cls, module: Any) -> dict[str, Any]:
        """The module's hyper-parameters as the core's operation takes them."""
        return {}

    @classmethod
    def image_shape(cls, module: Any, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what the core's operation gets, for an input of a shape. Raises
        ValueError."""
        return tuple(shape)

    @classmethod
    def some_shape(cls, module: Any) -> tuple[int, ...]:
        """A shape for the core's operation that any hyper-parameters fit."""
        raise NotImplementedError

    @classmethod
    def problem(cls, module: Any, shape: Sequence[int] | None, memory: int | None = None) -> Asked:
        """What the core's operation is to do for an input of the module of a shape, or of one that
        fits."""
        of = cls.some_shape(module) if shape is None else cls.image_shape(module, shape)
        attributes, certain = cls.attributes(module), shape is not None
        return cls.asked(module, cls.layer.op, [of], attributes, certain, memory)

    @classmethod
    def asked(
        cls,
        module: Any,
        op: str,
        inputs: Sequence[Sequence[int]],
        attributes: dict[str, Any],
        certain: bool = True,
        memory: int | None = None,
    ) -> Asked:
        """The problem of an operation of the core where the module's weights are, for inputs of
        shapes, which are `certain` to come or stand for others."""
        weight = module.weight
        weights = () if op == "conv2d_grad_weight" else cls.tensors(module)
        if weight.is_cpu or weight.is_meta:
            dtype = DTYPES[weight.dtype]
            arrays = [w if w is None else w.detach().to(getattr(torch, dtype)) for w in weights]
            held = _core.Weights.of(arrays, copy=False)
            return _core.problem(op, [_core.Spec(dtype, s) for s in inputs], held, attributes)
        platform = platform_of(weight.device.type)
        assert platform is not None
        dtype = str(weight.dtype).removeprefix("torch.")
        given = [Array(dtype, tuple(shape)) for shape in inputs]
        own = [w if w is None else array_of(w) for w in weights]
        return Task(platform, op, given, own, attributes, certain=certain, memory=memory)

    @classmethod
    def tensors(cls, module: Any) -> tuple[Tensor | None, ...]:
        """The weights that the core's operation gets."""
        return kernel_of(module.weight.detach()), module.bias

    @classmethod
    def problems(
        cls,
        module: Any,
        choice: Choice,
        shape: Sequence[int] | None,
        memory: int | None = None,
    ) -> Iterator[tuple[str, Asked]]:
        """Each algorithm of a choice with what it is to do."""
        assert isinstance(choice, str)
        yield choice, cls.problem(module, shape, memory)

    def compute(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, config: Config | None = None
    ) -> Tensor:
        """What the core's operation makes of the tensors, configured as the module is where nothing
        else is said."""
        if torch.compiler.is_compiling():
            return self.operator(input, weight, bias, config or self.config())
        layer: Layer | None = None
        if _is_plain(input, weight):
            layer = self.__dict__.get("_layer") or self._make_layer()
        elif _is_plain_on_device(input, weight):
            layer = self.__dict__.get("_placed") or self._make_placed()
        if layer is not None:
            if config is not None and config != layer.config:
                layer = layer_of(weight, type(layer), config)
            if torch.is_grad_enabled() and (
                weight.requires_grad
                or input.requires_grad
                or (bias is not None and bias.requires_grad)
            ):
                return _apply_training(input, weight, bias, layer, self.gradients)
            return layer.run(input, weight, bias)
        if torch._C._autograd._profiler_enabled():
            with torch.profiler.record_function(self._label(input)):
                return self._profiled(input, weight, bias, config)
        return self.operator(input, weight, bias, config or self.config())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, algorithm={self.algorithm!r}"

    def __setattr__(self, name: str, value: Any) -> None:
        configuring = self.configuring  # unless the value is another class
        super().__setattr__(name, value)
        if name in configuring:
            self.__dict__.pop("_layer", None)
            self.__dict__.pop("_placed", None)

    def __getstate__(self) -> dict[str, Any]:
        # An own __getstate__ of the original's class may refuse.
        own = getattr(super(), "__getstate__", None)
        state = self.__dict__ if own is None else own()
        return {name: value for name, value in state.items() if name not in ("_layer", "_placed")}

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The classes made by _swapped_class have no name to be found by.
        kind, original = swapped_class(self), original_class(self)
        if original is kind.original and type(self) is kind:
            return super().__reduce_ex__(protocol)
        return _blank, (kind, original), self.__getstate__()

    def _make_layer(self) -> Layer:
        state = self.__dict__
        layer = self.layer(self.config(), state.get("_name", ""), state.get("_frozen", False))
        self.__dict__["_layer"] = layer
        return layer

    def _make_placed(self) -> OnDevice:
        """The layer of whatever device the weights are on."""
        state = self.__dict__
        kind = ON_DEVICE[self.layer]
        placed = kind(self.config(), state.get("_name", ""), state.get("_frozen", False))
        state["_placed"] = placed
        return placed

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # The parameters are what `fn` makes of them: elsewhere, where they are moved.
        before = self.weight.device.type
        moved = super()._apply(fn, recurse)
        if self.weight.device.type not in (before, "meta"):
            self.__dict__.pop("_placed", None)
            self._warn_of_names()
        return moved

    def _warn_of_names(self) -> None:
        """Say which of the algorithms mean nothing where the weights are now."""
        device = str(self.weight.device.type)
        for op, name in self.chosen():
            if name not in algorithms_on(device, op):
                warnings.warn(
                    f"{self.__dict__.get('_name') or 'the module'}: its algorithm '{name}' of {op} "
                    f"means nothing on {device}, where it cannot run: {no_such(op, name, device)}; "
                    "swap it for another there, or move the network back",
                    stacklevel=2,
                )

    def chosen(self) -> list[tuple[str, str]]:
        """The core's operations that it runs, each with the algorithm."""
        return [(self.layer.op, self.algorithm)]

    def _profiled(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, config: Config | None
    ) -> Tensor:
        """By the operator, which torch's profiler knows, with gradients that are labelled."""
        kind, layer = self.layer, None
        if _is_plain(input, weight, profiled=True):
            layer = self.__dict__.get("_layer") or self._make_layer()
        elif _is_plain_on_device(input, weight, profiled=True):
            kind, layer = ON_DEVICE[kind], self.__dict__.get("_placed") or self._make_placed()
        if layer is None:
            return self.operator(input, weight, bias, config or self.config())
        if config is not None and config != layer.config:
            layer = layer_of(weight, kind, config)
        result: Tensor = _Profiled.apply(input, weight, bias, layer, self.gradients, self.operator)
        return result

    def _label(self, input: Tensor) -> str:
        """What the profiler shows beside the operator's own name."""
        algorithm = self.algorithm
        if algorithm == "default" and type(input) is Tensor:
            memory, geometry = self.__dict__.get("_memory"), self.attributes(self)
            problem = self.asked(self, self.layer.op, [input.shape], geometry, memory=memory)
            algorithm = f"default: {problem.resolve(algorithm)}"
        return f"ai3::{self.kind}[{algorithm}] {self.__dict__.get('_name', '')}".rstrip()


_ADDED = (
    *("algorithm", "grad_input", "grad_weight"),
    *("_name", "_why", "_memory", "_layer", "_placed", "_frozen"),
)
"""What a swapped module holds that the original does not."""


def swap(
    module: nn.Module,
    kind: type[Swapped],
    choice: Choice,
    name: str,
    why: str,
    memory: int | None = None,
) -> None:
    """Make the module, whose qualified name is `name`, compute by what was chosen."""
    if not isinstance(module, Swapped):
        module.__class__ = _with_base(module, _class_of(kind, _base(type(module), module)))
    assert isinstance(module, Swapped)
    freeze(module, False)
    module.configure(choice)
    module.__dict__.update(_name=name, _why=why, _memory=memory)


def freeze(module: Swapped, frozen: bool) -> None:
    """Whether the module trusts that its weight changes only in ways that torch counts."""
    module.__dict__.pop("_layer", None)
    module.__dict__.pop("_placed", None)
    module.__dict__["_frozen"] = frozen


def unswap(module: Swapped) -> None:
    """Make the module again what it was before `swap`."""
    module.__class__ = _with_base(module, original_class(module))
    for name in _ADDED:
        module.__dict__.pop(name, None)


def swapped_class(module: Swapped) -> type[Swapped]:
    """The kind of swapped module that it is."""
    return next(kind for kind in type(module).__mro__ if "kind" in vars(kind))


def original_class(module: Swapped) -> Any:
    """The class that the module had before it was swapped, parametrisation left aside."""
    kind, base = swapped_class(module), _base(type(module), module)
    return kind.original if base is kind else base.__bases__[1]


def computes_as(module: nn.Module, kind: type[Swapped]) -> bool:
    """Whether the module computes as the kind's original does: that itself, or a subclass which
    changes neither `forward` nor what it calls."""
    own = type(module)
    return (
        isinstance(module, kind.original)
        and own.forward in (kind.original.forward, kind.forward)
        and all(getattr(own, part) is getattr(kind.original, part) for part in kind.parts)
    )


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


def _class_of(kind: type[Swapped], original: Any) -> type[nn.Module]:
    if original is kind.original:
        return kind
    if (kind, original) not in _classes:
        own = {"__module__": original.__module__}
        _classes[kind, original] = type(original.__name__, (kind, original), own)
    return _classes[kind, original]


_classes: dict[Any, type[nn.Module]] = {}
"""The swapped classes of classes that users derived from torch's."""


def _blank(kind: type[Swapped], original: Any) -> nn.Module:
    made = _class_of(kind, original)
    return made.__new__(made)


def _is_plain(input: Tensor, weight: Tensor, profiled: bool = False) -> bool:
    """Whether the tensors are memory that the core can read and nothing watches or transforms the
    call, but torch's profiler where `profiled` allows it. Checks which the core makes again are
    left to it: each costs a hundredth of a call."""
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
        and (profiled or not torch._C._autograd._profiler_enabled())
        and not torch.is_autocast_enabled("cpu")
    )


_DENSE_TYPES = (nn.Parameter, Tensor)


def _is_plain_on_device(input: Tensor, weight: Tensor, profiled: bool = False) -> bool:
    """The same of tensors that are both on a device."""
    device = weight.device.type
    return (
        device not in ("cpu", "meta")
        and type(input) is Tensor
        and type(weight) in _DENSE_TYPES
        and input.device.type == device
        and not input.is_neg()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and (profiled or not torch._C._autograd._profiler_enabled())
        and not torch.is_autocast_enabled(device)
    )


class _Training(torch.autograd.Function):
    """The layer where nothing but autograd takes part."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: Layer,
        gradients: Gradients,
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.layer, ctx.gradients = layer, gradients
        return layer.run(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        saved, needs, layer = ctx.saved_tensors, ctx.needs_input_grad[:3], ctx.layer
        if (
            torch.is_grad_enabled()
            or not (_is_plain(grad, saved[1]) or _is_plain_on_device(grad, saved[1]))
            or torch._C._functorch.is_legacy_batchedtensor(grad)
        ):
            if torch._C._autograd._profiler_enabled():
                return (*_labelled(ctx.gradients, grad, saved, layer, needs), None, None)
            return (*ctx.gradients(grad, saved, layer.config, needs), None, None)
        return (*layer.gradients(grad, *saved, needs), None, None)


class _Profiled(_Training):
    """The same where torch's profiler watches: by the operators, which it knows."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: Layer,
        gradients: Gradients,
        operator: Callable[..., Tensor],
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.layer, ctx.gradients = layer, gradients
        return operator(input, weight, bias, layer.config)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return (*_Training.backward(ctx, grad), None)


def _labelled(
    gradients: Gradients, grad: Tensor, saved: Sequence[Tensor], layer: Layer, needs: Sequence[bool]
) -> Iterator[Tensor | None]:
    """The gradients, each under what the profiler is to show of it."""
    for i, label in enumerate(layer.gradient_labels(grad, *saved)):
        if not needs[i]:
            yield None
            continue
        with torch.profiler.record_function(label):
            found = gradients(grad, saved, layer.config, [k == i for k in range(len(needs))])
        yield found[i]


# Function.apply without its search for functorch's wrappers, of which _is_plain knows.
_apply_training = torch._C._FunctionBase.__dict__["apply"].__get__(None, _Training)
