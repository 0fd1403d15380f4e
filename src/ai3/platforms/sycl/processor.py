"""The kernels on this computer's processor, as algorithms of the core's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ai3 import _core
from ai3.ops import ON_CPU, ONLY_BY_NAME
from ai3.platforms.sycl import PREFIX, kernel, opencl
from ai3.platforms.sycl.kernel import FORMS, Form
from ai3.problem import Problem


def add_to_core() -> None:
    for form in FORMS:
        name = PREFIX + form.name
        _core.add_algorithm(form.op, name, False, [], _OnProcessor(form))
        ONLY_BY_NAME.add((form.op, name))
    ON_CPU.update(_core.algorithms())


class _NumPy:
    def zeros(self, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, np.float32)

    def integers(self, values: Sequence[int]) -> Any:
        return np.array(values, np.int32)

    def dense(self, array: Any, order: Sequence[int] | None = None) -> Any:
        return np.ascontiguousarray(array if order is None else array.transpose(order))


class _OnProcessor:
    """What the core asks, see `ai3._core.add_algorithm`."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def refusal(self, description: tuple[Any, ...]) -> str:
        problem = Problem(description)
        if reason := kernel.refusal(problem):
            return reason
        try:
            opencl.device(problem.threads)
        except opencl.OpenCLError as error:
            return str(error)
        return ""

    def workspace_bytes(self, description: tuple[Any, ...]) -> int:
        return 0

    cost = None

    def plan(self, description: tuple[Any, ...], weights: Sequence[Any]) -> Callable[..., None]:
        problem = Problem(description)
        device = opencl.device(problem.threads)
        return kernel.Plan(self._form, device, _NumPy(), problem, weights)
