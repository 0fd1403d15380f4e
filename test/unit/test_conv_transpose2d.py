"""conv_transpose2d: every algorithm x hyper-parameters x dtype x instruction set level."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ai3 import _core
from ai3.validation.convolutions import TRANSPOSED
from test.compare import in_own_dtype
from test.unit.checks import assert_within, make_problem

ALGORITHMS = in_own_dtype(_core.algorithms()["conv_transpose2d"])
DTYPES = [torch.float32, torch.float64]

# The input's shape, the weight's, hyper-parameters.
CASES = {
    name: (case.inputs[0], case.weights[0] or (), case.attributes)
    for name, case in TRANSPOSED.items()
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(core: ModuleType, name: str, bias: bool, dtype: torch.dtype) -> None:
    shape, weight_shape, attributes = CASES[name]
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(weight_shape, dtype=dtype)
    added = torch.randn(weight_shape[1] * attributes.get("groups", 1), dtype=dtype)
    expected = F.conv_transpose2d(
        x.double(), weight.double(), added.double() if bias else None, **attributes
    )
    weights = [weight, added if bias else None]
    problem = make_problem(core, "conv_transpose2d", [x], weights, 2, **attributes)
    assert problem.output.shape == tuple(expected.shape)
    assert problem.resolve("default") in ALGORITHMS
    # Winograd's transforms lose some bits.
    terms = 100 * weight[0].numel() * weight_shape[0]
    assert_within(problem.reference(x).torch(), expected, reduction=terms, magnitude=2)
    done = 0
    for algorithm in ALGORITHMS:
        if not problem.refusal(algorithm):
            actual = problem.run(algorithm, x).torch()
            assert_within(actual, expected, reduction=terms, magnitude=2)
            done += 1
    assert done >= 5


@pytest.mark.parametrize(
    ("shape", "weight", "attributes", "message"),
    [
        ((1, 3, 5, 5), (4, 2, 3, 3), {}, "must have the 4 channels of weight"),
        ((3, 5), (3, 2, 3, 3), {}, "input must be"),
        ((1, 3, 5, 5), (3, 2, 3), {}, "weight must be"),
        ((1, 3, 5, 5), (3, 2, 3, 3), {"output_padding": 1}, "less than stride, not 1 for stride 1"),
        ((1, 3, 1, 1), (3, 2, 3, 3), {"padding": 2}, "padding 2 leaves nothing of the output"),
        ((1, 3, 5, 5), (3, 2, 3, 3), {"stride": 0}, "stride and dilation must be at least 1"),
    ],
)
def test_what_does_not_fit_is_told(
    shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"conv_transpose2d: .*{message}"):
        weights = _core.Weights.of([torch.ones(weight)])
        _core.problem("conv_transpose2d", [_core.Spec("float32", shape)], weights, attributes)


def test_bias_fits() -> None:
    weights = _core.Weights.of([torch.ones(3, 2, 3, 3), torch.ones(3)])
    with pytest.raises(ValueError, match=r"bias must be \(2,\), not \(3,\)"):
        _core.problem("conv_transpose2d", [_core.Spec("float32", (1, 3, 5, 5))], weights)
