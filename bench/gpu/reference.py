"""One case of one algorithm of a platform against the core's reference in double precision."""

from typing import Any

import torch

from ai3 import _core
from ai3.platforms.platform import Platform
from ai3.platforms.task import FORMATS, IMAGES, Array, Task
from ai3.validation.case import Case
from ai3.validation.cases import SUITES
from ai3.validation.trial import ERROR_FACTORS, Trial, arrays_of

FACTORS = {
    **dict.fromkeys(("winograd", "winograd f4"), ERROR_FACTORS["winograd f4"]),
    "guess": 80,
    "fft": 8,
    "default": 80,
}
"""What algorithms add to the rounding of a sum; those that stand for others as the worst."""


def run(
    platform: Platform, device: str, case: Case, name: str, dtype: str, layout: str
) -> tuple[Any, Any] | str:
    """The result and the reference's, both on the CPU, or why it is refused."""
    arrays, held = arrays_of(Trial(case, "float64"))
    kind = getattr(torch, dtype)
    given = [torch.from_numpy(x).to(kind) for x in arrays]
    weights = [w if w is None else torch.from_numpy(w).to(kind) for w in held]
    wide = [x.double().numpy() for x in given]
    kept = _core.Weights.of([w if w is None else w.double().numpy() for w in weights])
    specs = [_core.Spec("float64", x.shape) for x in wide]
    problem = _core.problem(case.op, specs, kept, dict(case.attributes))
    inputs = [x[None] if x.dim() == 3 and case.op in IMAGES else x for x in given]

    def array(x: torch.Tensor, lies: str = "dense") -> Array:
        return Array(dtype, tuple(x.shape), lies if x.dim() == 4 else "dense")

    own = [w if w is None else array(w) for w in weights]
    task = Task(platform, case.op, [array(x, layout) for x in inputs], own, case.attributes)
    if refused := task.refusal(name):
        return refused
    memory = FORMATS[task.layout_for(name)]

    def lie(x: torch.Tensor) -> torch.Tensor:
        x = x.to(device)
        return x.contiguous(memory_format=memory) if x.dim() == 4 else x

    planned = task.plan(name, [w if w is None else lie(w) for w in weights])
    workspace = torch.full((planned.workspace_bytes,), 0xFF, dtype=torch.uint8, device=device)
    output = None
    if not planned.allocates:
        output = lie(torch.full(planned.output.shape, torch.nan, dtype=kind))
    made = planned.run([lie(x) for x in inputs], output, workspace)
    result = made if output is None else output
    expected = problem.reference(*wide).torch()
    return result.cpu().contiguous().view(expected.shape), expected


def wrong(
    platform: Platform, device: str, case: Case, name: str, dtype: str, layout: str
) -> str | None:
    """What is wrong with an algorithm's result; None where it refuses, empty where it is right."""
    found = run(platform, device, case, name, dtype, layout)
    if isinstance(found, str):
        return None
    actual, expected = found
    if not expected.numel():
        return ""
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    if dtype in ("float16", "bfloat16") and name == "winograd":
        epsilon *= 8  # cuDNN's has its transforms in halves
    terms = SUITES[case.op].reduction(case)
    largest = max(1.0, float(expected.abs().max()))
    allowed = 8 * epsilon * FACTORS.get(name, 1) * max(1.0, terms**0.5) * largest
    apart = float((actual.double() - expected).abs().max())
    return "" if apart <= allowed else f"{apart:.3g} apart, {allowed:.3g} allowed"
