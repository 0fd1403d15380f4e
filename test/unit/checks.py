"""What the unit tests of all operations share."""

from types import ModuleType
from typing import Any

import numpy as np
import torch


def make_problem(
    core: ModuleType,
    op: str,
    inputs: list[torch.Tensor],
    weights: list[torch.Tensor | None] | None = None,
    threads: int = 0,
    **attributes: Any,
) -> Any:
    specs = [core.Spec(str(x.dtype).removeprefix("torch."), tuple(x.shape)) for x in inputs]
    return core.problem(op, specs, core.Weights.of(weights or []), attributes, threads)


def assert_within(
    actual: torch.Tensor, expected: torch.Tensor, *, reduction: int, magnitude: float
) -> None:
    """`actual` is within the rounding of a sum of `reduction` terms of the given magnitude.

    The error of a recursive sum grows with epsilon times its length in the worst case and with the
    square root of the length for random signs (Higham, Accuracy and Stability, chapter 4).
    """
    assert actual.shape == expected.shape
    epsilon = torch.finfo(actual.dtype).eps
    allowed = 8 * epsilon * magnitude * max(1.0, reduction**0.5)
    difference = (actual.double() - expected.double()).abs()
    worst = difference.max().item() if difference.numel() else 0.0
    assert worst <= allowed, f"{worst:.3g} apart, {allowed:.3g} allowed"


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_array_equal(actual.numpy(), expected.numpy())


def check_algorithms(
    core: ModuleType,
    op: str,
    inputs: list[torch.Tensor],
    expected: torch.Tensor,
    weights: list[torch.Tensor | None] | None = None,
    *,
    reduction: int,
    magnitude: float,
    **attributes: Any,
) -> None:
    """The reference and every algorithm of an operation that does not refuse give what torch gives
    for float64; so do two threads, to the bit as one does."""
    one, two = (make_problem(core, op, inputs, weights, n, **attributes) for n in (1, 2))
    assert one.output.shape == tuple(expected.shape)
    results = {"reference": one.reference(*inputs).torch()}
    for algorithm in core.algorithms()[op]:
        if one.refusal(algorithm):
            continue
        results[algorithm] = one.run(algorithm, *inputs).torch()
        assert_same_bits(two.run(algorithm, *inputs).torch(), results[algorithm])
    for name, actual in results.items():
        assert actual.dtype == inputs[0].dtype, name
        finite = expected.isfinite()
        assert_same_bits(actual[~finite].double(), expected[~finite])
        assert_within(actual[finite], expected[finite], reduction=reduction, magnitude=magnitude)


def run_in_place(
    core: ModuleType, problem: Any, algorithm: str, first: torch.Tensor, *others: torch.Tensor
) -> Any:
    """The result of an operation that writes its output over its first input."""
    specs = problem.inputs
    copy_in = core.problem("flatten", [specs[0]])
    copy_out = core.problem("flatten", [problem.output])
    memory = ("arena", 0, 0)
    inputs = [memory, *(("input", 1 + i, 0) for i in range(len(others)))]
    steps = [
        (copy_in, "direct", [("input", 0, 0)], memory),
        (problem, algorithm, inputs, memory),
        (copy_out, "direct", [memory], ("output", 0, 0)),
    ]
    executor = core.Executor(specs, [problem.output], [], steps, problem.output.bytes)
    return executor([first, *others])[0]


LAYOUTS = ["dense", "channels_last", "blocked"]


def to_layout(core: ModuleType, x: torch.Tensor, layout: str) -> torch.Tensor:
    """The memory of an image in a layout, as a dense tensor of its own; a last block of channels is
    filled up with ones."""
    if layout == "dense":
        return x.contiguous()
    if layout == "channels_last":
        return x.movedim(-3, -1).contiguous()
    spec = core.Spec(str(x.dtype).removeprefix("torch."), (1, 1, 1), layout)
    block = spec.bytes // x.element_size()
    missing = -x.shape[-3] % block
    x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing), value=1.0)
    return x.unflatten(-3, (-1, block)).movedim(-3, -1).contiguous()


def from_layout(memory: torch.Tensor, layout: str, channels: int) -> torch.Tensor:
    """The image (N, C, H, W) or (C, H, W) that `to_layout` made the memory of."""
    if layout == "dense":
        return memory
    if layout == "channels_last":
        return memory.movedim(-1, -3)
    return memory.movedim(-1, -3).flatten(-4, -3).narrow(-3, 0, channels)


def run_in_layout(
    core: ModuleType, problem: Any, algorithm: str, *inputs: torch.Tensor
) -> torch.Tensor:
    """The result of a problem whose inputs or output are in any layout, as an image."""
    memory = [
        to_layout(core, x, spec.layout) for x, spec in zip(inputs, problem.inputs, strict=True)
    ]
    specs = [core.Spec(problem.output.dtype, tuple(x.shape)) for x in memory]
    like = torch.empty(problem.output.shape, dtype=inputs[0].dtype)
    like = to_layout(core, like, problem.output.layout)
    output = core.Spec(problem.output.dtype, tuple(like.shape))
    places = [("input", i, 0) for i in range(len(memory))]
    step = (problem, algorithm, places, ("output", 0, 0))
    executor = core.Executor(specs, [output], [], [step], 0)
    (result,) = executor(memory)
    return from_layout(torch.as_tensor(result), problem.output.layout, problem.output.shape[-3])


def run_keeping_layout(
    core: ModuleType, op: str, x: torch.Tensor, layout: str, attributes: Any
) -> torch.Tensor:
    """The result of an operation that writes the layout which it reads, as an image."""
    spec = core.Spec(str(x.dtype).removeprefix("torch."), x.shape, layout)
    problem = core.problem(op, [spec], None, attributes)
    assert problem.output.layout == layout
    return run_in_layout(core, problem, "direct", x)
