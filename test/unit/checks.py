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
    **attributes: Any,
) -> Any:
    specs = [core.Spec(str(x.dtype).removeprefix("torch."), tuple(x.shape)) for x in inputs]
    return core.problem(op, specs, core.Weights.of(weights or []), attributes)


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
    """The reference and every algorithm of an operation give what torch gives for float64."""
    problem = make_problem(core, op, inputs, weights, **attributes)
    assert problem.output.shape == tuple(expected.shape)
    results = {name: problem.run(name, *inputs) for name in core.algorithms()[op]}
    results["reference"] = problem.reference(*inputs)
    for name, result in results.items():
        actual = result.torch()
        assert actual.dtype == inputs[0].dtype, name
        finite = expected.isfinite()
        assert torch.equal(actual[~finite].nan_to_num(), expected[~finite].to(actual).nan_to_num())
        assert_within(
            actual[finite],
            expected[finite],
            reduction=reduction,
            magnitude=magnitude,
        )
