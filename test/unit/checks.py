"""What the unit tests of all operations share."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from hypothesis import strategies as st

from ai3.ops import LAYOUTS as LAYOUTS
from ai3.validation import layouts
from test.compare import in_own_dtype

T = TypeVar("T")


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
    for algorithm in in_own_dtype(core.algorithms()[op]):
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


def to_layout(core: ModuleType, x: torch.Tensor, layout: str) -> torch.Tensor:
    """The memory of an image in a layout, as a dense tensor of its own."""
    memory = torch.from_numpy(layouts.to_memory(_plain(x).numpy(), layout, _block(core, x)))
    return memory.view(x.dtype)


def _plain(x: torch.Tensor) -> torch.Tensor:
    """The elements in a dtype that numpy has."""
    return x.view(torch.int16) if x.dtype is torch.bfloat16 else x


def _block(core: ModuleType, x: torch.Tensor) -> int:
    spec = core.Spec(str(x.dtype).removeprefix("torch."), (1, 1, 1), "blocked")
    return int(spec.bytes // x.element_size())


def run_in_layout(
    core: ModuleType, problem: Any, algorithm: str, *inputs: torch.Tensor
) -> torch.Tensor:
    """The result of a problem whose inputs or output are in any layout, as an image."""
    memory = [
        to_layout(core, x, spec.layout) for x, spec in zip(inputs, problem.inputs, strict=True)
    ]
    specs = [core.Spec(str(x.dtype).removeprefix("torch."), tuple(x.shape)) for x in memory]
    like = torch.empty(problem.output.shape, dtype=getattr(torch, problem.output.dtype))
    like = to_layout(core, like, problem.output.layout)
    output = core.Spec(problem.output.dtype, tuple(like.shape))
    places = [("input", i, 0) for i in range(len(memory))]
    step = (problem, algorithm, places, ("output", 0, 0))
    executor = core.Executor(specs, [output], [], [step], 0)
    (result,) = executor(memory)
    written = _plain(torch.as_tensor(result))
    image = layouts.from_memory(written.numpy(), problem.output, _block(core, like))
    return torch.from_numpy(image).view(like.dtype)


def run_keeping_layout(
    core: ModuleType, op: str, x: torch.Tensor, layout: str, attributes: Any
) -> torch.Tensor:
    """The result of an operation that writes the layout which it reads, as an image."""
    spec = core.Spec(str(x.dtype).removeprefix("torch."), x.shape, layout)
    problem = core.problem(op, [spec], None, attributes)
    assert problem.output.layout == layout
    return run_in_layout(core, problem, "direct", x)


class Drawn:
    """What the package's cases draw, drawn by hypothesis; see ai3.validation.case.Draw."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))
