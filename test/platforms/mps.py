"""Convolutions by the platform's algorithms, on tensors of this processor or a device."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from ai3 import _core
from ai3.platforms.mps import Mps, shaders
from ai3.platforms.task import FORMATS, IMAGES, Array, Planned, Task
from ai3.validation.case import Case
from ai3.validation.cases import SUITES
from ai3.validation.convolutions import (
    CONVOLUTIONS,
    MORE_CONVOLUTIONS,
    TRANSPOSED,
    gradients_of,
)
from ai3.validation.trial import ERROR_FACTORS, ROUNDINGS, Trial, arrays_of

PLATFORM = Mps()
WAYS = [(dtype, layout) for layout in FORMATS for dtype in shaders.SCALARS]
"""Dtypes and layouts."""

OPERATIONS = ("conv2d", "conv2d_grad_input", "conv_transpose2d", "conv2d_grad_weight")


@dataclass(frozen=True)
class Tried:
    """A case on tensors of a dtype and layout, batched."""

    case: Case
    dtype: torch.dtype
    layout: str
    inputs: list[Tensor]
    weights: list[Tensor | None]

    @classmethod
    def of(
        cls, case: Case, dtype: str = "float32", layout: str = "dense", device: str = "cpu"
    ) -> "Tried":
        inputs, weights = arrays_of(Trial(case))
        kind = getattr(torch, dtype)
        images = [torch.from_numpy(x).to(device, kind) for x in inputs]
        images = [x[None] if x.dim() == 3 and case.op in IMAGES else x for x in images]
        held = [w if w is None else torch.from_numpy(w).to(device, kind) for w in weights]
        images = [x.contiguous(memory_format=FORMATS[layout]) for x in images]
        return cls(case, kind, layout, images, held)

    def task(self) -> Task:
        def array(x: Tensor, layout: str = "dense") -> Array:
            return Array(str(x.dtype).removeprefix("torch."), tuple(x.shape), layout)

        inputs = [array(x, self.layout) for x in self.inputs]
        weights = [w if w is None else array(w) for w in self.weights]
        return Task(PLATFORM, self.case.op, inputs, weights, self.case.attributes)

    def run(self, algorithm: str) -> tuple[Planned, Tensor]:
        planned = self.task().plan(algorithm, self.weights)
        return planned, computed(planned, self.inputs)

    def expected(self) -> Tensor:
        """In double precision, of the same rounded values."""
        inputs = [x.cpu().double().contiguous().numpy() for x in self.inputs]
        weights = [w if w is None else w.cpu().double().numpy() for w in self.weights]
        specs = [_core.Spec("float64", x.shape) for x in inputs]
        held = _core.Weights.of(weights, False)
        problem = _core.problem(self.case.op, specs, held, dict(self.case.attributes))
        return torch.from_numpy(problem.reference(*inputs).numpy().copy())

    def allowed(self, algorithm: str, expected: Tensor) -> float:
        """How far from what is expected a result may be."""
        largest = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        length = sqrt(SUITES[self.case.op].reduction(self.case))
        factor = ROUNDINGS * ERROR_FACTORS.get(algorithm, 1)
        if self.dtype is torch.float16:
            # Sums are float32: what is rounded are the weights' transforms and the result.
            factor, length = ROUNDINGS, 1.0
        return factor * torch.finfo(self.dtype).eps * length * largest


def computed(planned: Planned, inputs: list[Tensor]) -> Tensor:
    """By a plan, into memory full of NaN."""
    workspace = output = None
    device = inputs[0].device
    if planned.workspace_bytes:
        workspace = torch.full((planned.workspace_bytes,), 255, dtype=torch.uint8, device=device)
    if not planned.allocates:
        shape, dtype = planned.output.shape, getattr(torch, planned.output.dtype)
        output = torch.full(shape, torch.nan, dtype=dtype, device=device)
        output = output.contiguous(memory_format=FORMATS[planned.output.layout])
    result: Any = planned.run(inputs, output, workspace)
    return result if output is None else output


def cases_of(op: str) -> dict[str, Case]:
    """The named ones of one of the operations."""
    if op == "conv_transpose2d":
        return TRANSPOSED
    named = {**CONVOLUTIONS, **{f"more_{name}": case for name, case in MORE_CONVOLUTIONS.items()}}
    if op == "conv2d":
        return named
    return {name: next(g for g in gradients_of(case) if g.op == op) for name, case in named.items()}


def algorithms(op: str) -> list[str]:
    return list(PLATFORM.algorithms(op))
