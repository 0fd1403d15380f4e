"""One layer as the core runs it, forward and backward, on torch's tensors."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ai3 import _core, choices

Config = tuple[Any, ...]
"""What a layer's operator takes beside tensors, in the operator's order."""

_KEPT_SIZES = 16


class Layer(ABC):
    """Calls of the core for one configuration, with what they have prepared of one weight.

    The weight is compared with what was prepared at each call, all of it; where the layer is
    `frozen`, only its memory and torch's count of changes are.

    Tensors are dense CPU memory. Those of `widened` dtypes are computed with in float32, and their
    result is rounded once. ai3.torch.device_layer has layers of other devices.
    """

    op: ClassVar[str]
    """The core's operation."""
    names: ClassVar[tuple[str, ...]] = ()
    """Of its attributes, in the configuration's order."""
    forward_at: ClassVar[int] = -1
    """Where in the configuration the algorithm of the forward pass is; before it is the memory that
    a workspace may have on a device, None without a limit."""
    widened: ClassVar[torch.dtype | None] = torch.float16

    def __init__(self, config: Config, name: str = "", frozen: bool = False) -> None:
        self.config = config
        self._name = name
        self._frozen = frozen
        self._weight: Callable[[], Tensor | None] = _nothing
        self._changes = 0
        self._attributes = dict(zip(self.names, config, strict=False))
        self._forward = self.make_call(self.op, self._attributes, config[self.forward_at], name)
        if choices.told():  # asked here, and not at each call
            self.run, self.gradients = self._told_run, self._told_gradients  # type: ignore[method-assign]

    def make_call(self, op: str, attributes: dict[str, Any], algorithm: str, name: str) -> Any:
        return _core.Call(op, attributes, algorithm, name)

    @staticmethod
    def grad_bias(grad: Tensor) -> Tensor:
        return run_grad_bias(grad)

    def __reduce__(self) -> Any:
        return type(self), (self.config, self._name, self._frozen)

    def run(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        try:
            return self._call(self._forward, input, weight, bias)
        except TypeError:
            if input.dtype is not self.widened:
                raise
        return self._widened(self.run, input, weight, bias)

    @abstractmethod
    def gradients(
        self, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """By input, weight and bias, of those that `needs` says."""

    def _told_run(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        problem = self.asked(self.op, [input], weight)
        choices.tell(self._name, problem, self.config[self.forward_at])
        return type(self).run(self, input, weight, bias)

    def _told_gradients(
        self, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        parts = self.gradient_problems(grad, input, weight)
        for (_, algorithm, problem), needed in zip(parts, needs, strict=True):
            if needed and problem is not None:
                choices.tell(self._name, problem, algorithm)
        return type(self).gradients(self, grad, input, weight, needs)

    def gradient_labels(self, grad: Tensor, input: Tensor, weight: Tensor) -> list[str]:
        """What the profiler shows of the gradients by input, weight and bias."""
        labels = []
        for part, algorithm, problem in self.gradient_problems(grad, input, weight):
            if problem is not None and algorithm == "default":
                algorithm = f"default: {problem.resolve(algorithm)}"
            labels.append(f"ai3::{part}[{algorithm}] {self._name}".rstrip())
        return labels

    @abstractmethod
    def gradient_problems(
        self, grad: Tensor, input: Tensor, weight: Tensor
    ) -> list[tuple[str, str, Any]]:
        """The gradients by input, weight and bias: an operation and an algorithm, and what that has
        to do, None where torch does it."""

    def asked(self, op: str, inputs: Sequence[Tensor], weight: Tensor | None, **sizes: Any) -> Any:
        """What one of the core's operations has to do with these tensors: a problem, or what
        answers as one does."""
        specs = [_core.Spec(self._dtype_of(x), tuple(x.shape)) for x in inputs]
        kernel = [] if weight is None else [kernel_of(weight.detach()), None]
        kernel = [w if w is None or w.dtype is not self.widened else w.float() for w in kernel]
        return _core.problem(op, specs, _core.Weights.of(kernel, False), self._attributes | sizes)

    def _dtype_of(self, tensor: Tensor) -> str:
        """What is computed with."""
        if tensor.dtype is self.widened:
            return "float32"
        return str(tensor.dtype).removeprefix("torch.")

    def _call(self, call: _core.Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        torch.get_num_threads()  # applies torch.set_num_threads to this thread
        stamp = self._stamp(weight, bias)
        return call.run_with(x, kernel_of(weight), bias, stamp, self._frozen)

    def _widened(self, run: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
        dtypes = {t.dtype for t in tensors if t is not None}
        if len(dtypes) > 1:
            names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
            raise ValueError(f"{self.op}: input and weights must be of one dtype, not {names}")
        return run(*(t if t is None else t.float() for t in tensors)).to(dtypes.pop())

    def _stamp(self, weight: Tensor, bias: Tensor | None) -> int:
        """A number that moves whenever the tensors are others or torch counts a change of them,
        which it does not for those made in inference mode."""
        if weight is not self._weight():
            self._weight = weakref.ref(weight)
            self._changes += 1
        try:
            versions = weight._version if bias is None else weight._version << 20 ^ bias._version
        except RuntimeError:
            versions = 0
        return (self._changes << 40 ^ versions) & _LARGEST


_LARGEST = 2**63 - 1


def _nothing() -> None:
    return None


def kernel_of(weight: Tensor) -> Tensor:
    """The weight as the core's operations take it. That of a layer of rows, (OC, IC, KW), is one of
    images, (OC, IC, 1, KW); that of a layer of volumes, (OC, IC, KD, KH, KW), is one of planes,
    (OC, IC * KD, KH, KW). The same memory."""
    dims = weight.dim()
    if dims == 3:
        return weight.unsqueeze(2)
    return weight.flatten(1, 2) if dims == 5 else weight


class Convolution(Layer):
    """Its configuration: stride, padding (top, bottom, left, right), dilation, groups,
    padding_mode, memory, and the algorithms: forward, of the gradient by input, of that by
    weight."""

    op = "conv2d"
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    forward_at = -3

    def __init__(self, config: Config, name: str = "", frozen: bool = False) -> None:
        super().__init__(config, name, frozen)
        self._grad_inputs: dict[tuple[int, ...], _core.Call] = {}
        self._grad_weights: dict[tuple[int, ...], _core.Call] = {}

    def gradients(
        self, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        return (
            self.run_grad_input(grad, weight, tuple(input.shape[-2:])) if needs[0] else None,
            self.grad_weight_like(grad, input, weight) if needs[1] else None,
            self.grad_bias(grad) if needs[2] else None,
        )

    def gradient_problems(
        self, grad: Tensor, input: Tensor, weight: Tensor
    ) -> list[tuple[str, str, Any]]:
        sizes = {"input_size": tuple(input.shape[-2:])}
        kernel = {"kernel_size": tuple(kernel_of(weight).shape[-2:])}
        by_input = self.asked("conv2d_grad_input", [grad], weight, **sizes)
        by_weight = self.asked("conv2d_grad_weight", [input, grad], None, **kernel)
        return [
            ("conv2d_grad_input", self.config[-2], by_input),
            ("conv2d_grad_weight", self.config[-1], by_weight),
            ("conv2d_grad_bias", "direct", None),
        ]

    def run_grad_input(self, grad: Tensor, weight: Tensor, size: tuple[int, ...]) -> Tensor:
        if grad.dtype is self.widened:
            return self._widened(lambda g, w: self.run_grad_input(g, w, size), grad, weight)
        call = self._grad_inputs.get(size)
        if call is None:
            call = self._make(self._grad_inputs, "conv2d_grad_input", "input_size", size)
        return self._call(call, grad, weight, None)

    def run_grad_weight(self, grad: Tensor, input: Tensor, kernel: tuple[int, ...]) -> Tensor:
        torch.get_num_threads()
        if grad.dtype is self.widened:
            return self._widened(lambda g, x: self.run_grad_weight(g, x, kernel), grad, input)
        call = self._grad_weights.get(kernel)
        if call is None:
            call = self._make(self._grad_weights, "conv2d_grad_weight", "kernel_size", kernel)
        return call(input, grad)

    def grad_weight_like(self, grad: Tensor, input: Tensor, weight: Tensor) -> Tensor:
        found = self.run_grad_weight(grad, input, tuple(kernel_of(weight).shape[-2:]))
        return found if weight.dim() == 4 else found.view(weight.shape)

    def _make(
        self, calls: dict[Any, _core.Call], op: str, name: str, size: tuple[int, ...]
    ) -> _core.Call:
        if len(calls) >= _KEPT_SIZES:
            calls.clear()
        algorithm = self.config[-2 if op == "conv2d_grad_input" else -1]
        call = self.make_call(op, self._attributes | {name: size}, algorithm, self._name)
        calls[size] = call
        return call


class ConvTranspose(Layer):
    """Its configuration: stride, padding, output_padding, dilation, groups, memory, the algorithm.

    It is the gradient of a convolution by its input, so its own gradients are that convolution and
    its gradient by the weight.
    """

    op = "conv_transpose2d"
    names = ("stride", "padding", "output_padding", "dilation", "groups")
    convolution: ClassVar[type[Convolution]] = Convolution

    @staticmethod
    def transposed(config: Config) -> Config:
        """The configuration of the convolution of which it is the gradient."""
        stride, (vertical, horizontal), _, dilation, groups, memory, _ = config
        border = (vertical, vertical, horizontal, horizontal)
        algorithms = ("default", "default", "default")
        return (stride, border, dilation, groups, "zeros", memory, *algorithms)

    def gradients(
        self, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        convolution = self._convolution(weight)
        return (
            convolution.run(grad, weight, None) if needs[0] else None,
            convolution.grad_weight_like(input, grad, weight) if needs[1] else None,
            self.grad_bias(grad) if needs[2] else None,
        )

    def gradient_problems(
        self, grad: Tensor, input: Tensor, weight: Tensor
    ) -> list[tuple[str, str, Any]]:
        convolution = self._convolution(weight)
        kernel = {"kernel_size": tuple(kernel_of(weight).shape[-2:])}
        by_weight = convolution.asked("conv2d_grad_weight", [grad, input], None, **kernel)
        return [
            ("conv2d", "default", convolution.asked("conv2d", [grad], weight)),
            ("conv2d_grad_weight", "default", by_weight),
            ("conv2d_grad_bias", "direct", None),
        ]

    def _convolution(self, weight: Tensor) -> Convolution:
        """That of which it is the gradient."""
        return layer_of(weight, self.convolution, self.transposed(self.config))


class Linear(Layer):
    """Its configuration: memory, the algorithm. The gradients are torch's products of matrices."""

    op = "linear"

    def gradients(
        self, grad: Tensor, input: Tensor, weight: Tensor, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        return linear_gradients(grad, (input, weight), self.config, needs)

    def gradient_problems(
        self, grad: Tensor, input: Tensor, weight: Tensor
    ) -> list[tuple[str, str, Any]]:
        parts = ("linear_grad_input", "linear_grad_weight", "linear_grad_bias")
        return [(part, "torch", None) for part in parts]


def linear_gradients(
    grad: Tensor, saved: Sequence[Tensor], config: Config, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    input, weight = saved
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad @ weight if needs[0] else None,
        rows.T @ input.reshape(-1, input.shape[-1]) if needs[1] else None,
        rows.sum(0) if needs[2] else None,
    )


def run_grad_bias(grad: Tensor) -> Tensor:
    torch.get_num_threads()
    if grad.dtype is torch.float16:
        return run_grad_bias(grad.float()).to(grad.dtype)
    return _grad_bias()(grad)


L = TypeVar("L", bound=Layer)
_layers: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""weight -> its Layer for each configuration, for calls that do not come from a module."""


def layer_of(weight: Tensor, kind: type[L], config: Config) -> L:
    """The layer of a weight that no module holds."""
    layers = _layers.setdefault(weight, {})
    layer: L | None = layers.get((kind, config))
    if layer is None:
        layer = layers[kind, config] = kind(config)
    return layer


@lru_cache(maxsize=256)
def weightless_layer(config: Config) -> Convolution:
    """A layer for what needs no weight."""
    return Convolution(config)


@cache
def _grad_bias() -> _core.Call:
    return _core.Call("conv2d_grad_bias", {}, "default")
