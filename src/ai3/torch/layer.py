"""One convolution as the core runs it, forward and backward, on torch's tensors."""

import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ai3 import _core

Config = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, str, str, str, str]
"""stride, padding (top, bottom, left, right), dilation, groups, padding_mode, and the algorithms:
forward, of the gradient by input, of the gradient by weight."""

_NARROW = (torch.bfloat16, torch.float16)
_KEPT_SIZES = 16


class Layer:
    """Calls of the core for one configuration, with what they have prepared of one weight.

    The weight is compared with what was prepared at each call, all of it; where the layer is
    `frozen`, only its memory and torch's count of changes are.

    Tensors are dense CPU memory. Those of bfloat16 and float16 are computed with in float32, and
    their result is rounded once.
    """

    def __init__(self, config: Config, name: str = "", frozen: bool = False) -> None:
        stride, padding, dilation, groups, padding_mode, *algorithms = config
        self.config = config
        self._name = name
        self._frozen = frozen
        self._algorithms = algorithms
        self._attributes = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "padding_mode": padding_mode,
        }
        self._forward = _core.Call("conv2d", self._attributes, algorithms[0], name)
        self._grad_inputs: dict[tuple[int, ...], _core.Call] = {}
        self._grad_weights: dict[tuple[int, ...], _core.Call] = {}
        self._weight: Callable[[], Tensor | None] = _nothing
        self._changes = 0

    def __reduce__(self) -> Any:
        return Layer, (self.config, self._name, self._frozen)

    def run(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        torch.get_num_threads()  # applies torch.set_num_threads to this thread
        try:
            stamp = self._stamp(weight, bias)
            return self._forward.run_with(input, weight, bias, stamp, self._frozen)
        except TypeError:
            if input.dtype not in _NARROW:
                raise
        return _widened(self.run, input, weight, bias)

    def run_grad_input(self, grad: Tensor, weight: Tensor, size: tuple[int, ...]) -> Tensor:
        torch.get_num_threads()
        if grad.dtype in _NARROW:
            return _widened(lambda g, w: self.run_grad_input(g, w, size), grad, weight)
        call = self._grad_inputs.get(size)
        if call is None:
            call = self._make(self._grad_inputs, "conv2d_grad_input", 1, "input_size", size)
        return call.run_with(grad, weight, None, self._stamp(weight, None), self._frozen)

    def run_grad_weight(self, grad: Tensor, input: Tensor, kernel: tuple[int, ...]) -> Tensor:
        torch.get_num_threads()
        if grad.dtype in _NARROW:
            return _widened(lambda g, x: self.run_grad_weight(g, x, kernel), grad, input)
        call = self._grad_weights.get(kernel)
        if call is None:
            call = self._make(self._grad_weights, "conv2d_grad_weight", 2, "kernel_size", kernel)
        return call(input, grad)

    def _make(
        self, calls: dict[Any, _core.Call], op: str, which: int, name: str, size: tuple[int, ...]
    ) -> _core.Call:
        if len(calls) >= _KEPT_SIZES:
            calls.clear()
        call = _core.Call(op, self._attributes | {name: size}, self._algorithms[which], self._name)
        calls[size] = call
        return call

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


def run_grad_bias(grad: Tensor) -> Tensor:
    torch.get_num_threads()
    if grad.dtype in _NARROW:
        return _widened(run_grad_bias, grad)
    return _grad_bias()(grad)


def _nothing() -> None:
    return None


def _widened(run: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    dtypes = {t.dtype for t in tensors if t is not None}
    if len(dtypes) > 1:
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"conv2d: input and weights must be of one dtype, not {names}")
    return run(*(t if t is None else t.float() for t in tensors)).to(dtypes.pop())


_layers: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""weight -> its Layer for each configuration, for calls that do not come from a module."""


def layer_of(weight: Tensor, config: Config) -> Layer:
    """The layer of a weight that no module holds."""
    layers = _layers.setdefault(weight, {})
    layer = layers.get(config)
    if layer is None:
        layer = layers[config] = Layer(config)
    return layer


@lru_cache(maxsize=256)
def weightless_layer(config: Config) -> Layer:
    """A layer for what needs no weight."""
    return Layer(config)


@cache
def _grad_bias() -> _core.Call:
    return _core.Call("conv2d_grad_bias", {}, "default")
