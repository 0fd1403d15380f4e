"""One layer as a platform runs it on a device of its own, forward and backward."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ai3.platforms import platform_of
from ai3.platforms.platform import Platform
from ai3.platforms.task import FORMATS, IMAGES, Array, Task
from ai3.torch import layer
from ai3.torch.layer import Config, Layer

_KEPT_SHAPES = 64


class Call:
    """An operation by the algorithm of a name, for tensors of any shape on any device of a
    platform; plans are kept as long as the weights are the same memory. See `_core.Call`.

    What an algorithm has packed of a weight it packs again at each call or, where the layer is
    frozen, when `stamp` has moved.
    """

    def __init__(
        self,
        op: str,
        attributes: dict[str, Any],
        algorithm: str,
        name: str = "",
        memory: int | None = None,
    ) -> None:
        self._op, self._attributes, self._algorithm, self._name = op, attributes, algorithm, name
        self._memory = memory
        self._plans: dict[Any, _Plan] = {}
        self._held: tuple[int, ...] = ()
        self._platform: Platform | None = None  # of the latest plan

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self._run(inputs, (), 0, True)

    def run_with(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, stamp: int, frozen: bool
    ) -> Tensor:
        held = (weight.data_ptr(), 0 if bias is None else bias.data_ptr())
        if held != self._held:
            # A plan keeps its weights' memory, so that no other tensor can have the address.
            self._plans.clear()
            self._held = held
        return self._run((input,), (weight, bias), stamp, frozen)

    def _run(
        self, inputs: Sequence[Tensor], weights: Sequence[Tensor | None], stamp: int, frozen: bool
    ) -> Tensor:
        settings = self._platform and self._platform.settings()
        key = (settings, *[(x.shape, x.stride(), x.dtype, x.device) for x in inputs])
        plan = self._plans.get(key)
        if plan is None or (plan.made_of_elements and plan.stamp != stamp):
            plan, settings = self._planned(inputs, weights)
            key = (settings, *key[1:])
            if len(self._plans) >= _KEPT_SHAPES:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = plan
        elif plan.copies and not (frozen and plan.stamp == stamp):
            plan.refresh()
        plan.stamp = stamp
        return plan.run(inputs)

    def _planned(
        self, inputs: Sequence[Tensor], weights: Sequence[Tensor | None]
    ) -> "tuple[_Plan, Any]":
        where, first = self._name or self._op, inputs[0]
        for tensor in (*weights, *inputs[1:]):
            if tensor is None:
                continue
            if tensor.device != first.device:
                raise ValueError(
                    f"{where}: the input is on {first.device}, but the weights are on "
                    f"{tensor.device}: move one of them"
                )
            if tensor.dtype is not first.dtype:
                names = " and ".join(str(t.dtype).removeprefix("torch.") for t in (first, tensor))
                raise ValueError(f"{where}: input and weights must be of one dtype, not {names}")
        platform = platform_of(first.device.type)
        if platform is None:
            raise ValueError(f"{where}: nothing of ai3 runs on {first.device}")
        layout = layout_of(first) if self._op in IMAGES else "dense"
        arrays = [array_of(x, layout) for x in inputs]
        held = [w if w is None else array_of(w) for w in weights]
        task = Task(platform, self._op, arrays, held, self._attributes, memory=self._memory)
        # What a plan keeps is written again later, which is not for tensors of inference mode.
        with platform.guard(first.device), torch.inference_mode(False), torch.no_grad():
            self._platform = platform
            return _Plan(task, self._algorithm, first.device, weights), platform.settings()


class _Plan:
    """What runs inputs of one shape. `copies` says that it holds copies of the weights' elements,
    `made_of_elements` that it is to be made again for others."""

    stamp = 0

    def __init__(
        self,
        task: Task,
        algorithm: str,
        device: torch.device,
        weights: Sequence[Tensor | None],
    ) -> None:
        memory = FORMATS[task.layout_for(algorithm)]
        self._weights = [w if w is None else w.detach() for w in weights]
        self._alignment = task.platform.alignment
        self._own = [w if w is None else self._taken(w, memory) for w in self._weights]
        planned = task.plan(algorithm, self._own)
        self._run, self._refresh = planned.run, planned.refresh
        self._algorithm = f"{task.op} by '{planned.algorithm}'"
        copied = any(w is not own for w, own in zip(self._weights, self._own, strict=True))
        self.made_of_elements = planned.made_of_elements
        self.copies = copied or planned.refresh is not None
        self._platform, self._device, self._format = task.platform, device, memory
        output = planned.output
        self._of_output = FORMATS[output.layout]
        self._images, self._of_weights = task.op in IMAGES, task.op == "conv2d_grad_weight"
        self._output = None if planned.allocates else (output.shape, getattr(torch, output.dtype))
        self._workspace_bytes = planned.workspace_bytes

    def _taken(self, tensor: Tensor, memory: torch.memory_format) -> Tensor:
        return in_format(tensor, memory, self._alignment)

    def refresh(self) -> None:
        for weight, own in zip(self._weights, self._own, strict=True):
            if own is not None and weight is not None and weight is not own:
                own.copy_(weight)
        if self._refresh is not None:
            self._refresh()

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        if not self._platform.is_current(self._device):
            with self._platform.guard(self._device):
                return self._here(inputs)
        return self._here(inputs)

    def _here(self, inputs: Sequence[Tensor]) -> Tensor:
        unbatched = self._images and inputs[0].dim() == 3
        given = [self._taken(x[None] if unbatched else x, self._format) for x in inputs]
        output = None
        workspace = workspace_of(self._workspace_bytes, self._device, self._algorithm)
        if self._output is None:
            output = self._run(given, None, workspace)
        else:
            shape, dtype = self._output
            output = torch.empty(
                shape, dtype=dtype, device=self._device, memory_format=self._of_output
            )
            self._run(given, output, workspace)
        return output[0] if unbatched and not self._of_weights else output


class OnDevice(Layer):
    """Tensors are on a device of a platform's, dense or channels_last."""

    widened = None

    @property
    def memory(self) -> int | None:
        found: int | None = self.config[self.forward_at - 1]
        return found

    def make_call(self, op: str, attributes: dict[str, Any], algorithm: str, name: str) -> Any:
        return Call(op, attributes, algorithm, name, self.memory)

    @staticmethod
    def grad_bias(grad: Tensor) -> Tensor:
        return grad.sum((-1, -2) if grad.dim() == 3 else (0, 2, 3))

    def asked(self, op: str, inputs: Sequence[Tensor], weight: Tensor | None, **sizes: Any) -> Task:
        platform = platform_of(inputs[0].device.type)
        assert platform is not None
        held = () if weight is None else (array_of(layer.kernel_of(weight)), None)
        given, attributes = list(map(array_of, inputs)), self._attributes | sizes
        return Task(platform, op, given, held, attributes, memory=self.memory)

    def _call(self, call: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stamp = self._stamp(weight, bias)
        return call.run_with(x, layer.kernel_of(weight), bias, stamp, self._frozen)


class Convolution(OnDevice, layer.Convolution):
    pass


class ConvTranspose(OnDevice, layer.ConvTranspose):
    convolution = Convolution


class Linear(OnDevice, layer.Linear):
    pass


ON_DEVICE: dict[type[Layer], type[OnDevice]] = {
    kind.__mro__[2]: kind for kind in (Convolution, ConvTranspose, Linear)
}
"""By the layer on the CPU."""


@lru_cache(maxsize=256)
def weightless_layer(config: Config) -> Convolution:
    """A layer for what needs no weight."""
    return Convolution(config)


def workspace_of(bytes: int, device: torch.device, algorithm: str) -> Tensor | None:
    """Memory for a run. Raises torch.OutOfMemoryError where there is no room for it."""
    if not bytes:
        return None
    try:
        return torch.empty(bytes, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        raise torch.OutOfMemoryError(
            f"{algorithm}: {device} has no room for a workspace of {bytes} bytes: free some, "
            "choose another algorithm, or have swap bound it by memory="
        ) from None


def layout_of(x: Tensor) -> str:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return "channels_last" if last and not x.is_contiguous() else "dense"


def array_of(tensor: Tensor, layout: str = "dense") -> Array:
    return Array(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), layout)


def in_format(tensor: Tensor, memory: torch.memory_format, alignment: int = 1) -> Tensor:
    """The tensor itself where it is dense in this format, which those of other than four dimensions
    have none of, and its address a multiple of the alignment."""
    if tensor.dim() != 4:
        memory = torch.contiguous_format
    found = tensor.contiguous(memory_format=memory)
    if alignment > 1 and found.data_ptr() % alignment:
        return found.clone(memory_format=memory)
    return found
