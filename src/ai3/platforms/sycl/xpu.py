"""The kernels on Intel's GPUs, torch's devices "xpu". Not run on one: the kernels are tested on
CPUs, and so is what launches them on a queue of SYCL's."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from ai3.platforms.platform import Algorithm, Run
from ai3.platforms.sycl import kernel, queue
from ai3.platforms.sycl.kernel import FORMS, Form
from ai3.problem import Problem

PRECEDENCE = ("direct", "implicit gemm", "smm")
"""As they were fast on CPUs."""


def algorithms() -> Mapping[str, Sequence[Algorithm]]:
    """By operation."""
    found: dict[str, list[Algorithm]] = {}
    for form in FORMS:
        found.setdefault(form.op, []).append(OnQueue(form, current_queue))
    return found


def current_queue() -> int:
    """The address of the queue of torch's current stream."""
    import torch

    return int(torch.xpu.current_stream().sycl_queue)


class OnQueue(Algorithm):
    """A form on the queue whose address `current` gives."""

    def __init__(self, form: Form, current: Callable[[], int]) -> None:
        self._form, self.name, self._current = form, form.name, current

    def refusal(self, problem: Problem) -> str:
        return kernel.refusal(problem)

    def cost(self, problem: Problem) -> float:
        """In order of precedence."""
        return float(prod(problem.output)) * (1 + PRECEDENCE.index(self.name))

    def pads(self, problem: Problem) -> bool:
        return True

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return kernel.Plan(self._form, queue.Queue(self._current), Tensors(), problem, weights)


class Tensors:
    """Of torch's, on its current device of `device`'s type. See `kernel.Arrays`."""

    def __init__(self, device: str = "xpu") -> None:
        self._device = device

    def zeros(self, shape: tuple[int, ...]) -> Any:
        import torch

        return torch.zeros(shape, device=self._device)

    def integers(self, values: Sequence[int]) -> Any:
        import torch

        return torch.tensor(values, dtype=torch.int32, device=self._device)

    def dense(self, array: Any, order: Sequence[int] | None = None) -> Any:
        made = array.detach()
        return (made if order is None else made.permute(*order)).contiguous()
