"""relu: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import pytest
import torch

from ai3 import _core
from test.compare import in_own_dtype
from test.unit.checks import check_algorithms, make_problem, run_in_place

ALGORITHMS = in_own_dtype(_core.algorithms()["relu"])
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(), (1,), (33,), (5, 7), (2, 3, 4, 5), (1, 0, 3), (2, 1, 3, 1, 2, 5), (3, 70001)]
)
def test_equals_torch(core: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype)
    check_algorithms(core, "relu", [x], x.double().relu(), reduction=0, magnitude=0)


def test_larger_than_the_caches(core: ModuleType) -> None:
    x = torch.randn(2, 3500007)
    check_algorithms(core, "relu", [x], x.double().relu(), reduction=0, magnitude=0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity(core: ModuleType, algorithm: str) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-45, -1e-45] * 9)
    actual = make_problem(core, "relu", [x]).run(algorithm, x).torch()
    torch.testing.assert_close(actual, x.relu(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_input_is_not_overwritten(core: ModuleType, algorithm: str) -> None:
    x = torch.randn(1000)
    before = x.clone()
    make_problem(core, "relu", [x]).run(algorithm, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_place(core: ModuleType, algorithm: str) -> None:
    x = torch.randn(70001)
    assert torch.equal(run_in_place(core, make_problem(core, "relu", [x]), algorithm, x), x.relu())


def test_huge_shape_is_planned() -> None:
    problem = _core.problem("relu", [_core.Spec("float32", (1 << 33, 3))])
    assert problem.output.shape == (1 << 33, 3)
    with pytest.raises(ValueError, match="overflows"):
        _core.problem("relu", [_core.Spec("float32", (1 << 33, 1 << 33))])


def test_takes_one_input() -> None:
    x = _core.Spec("float32", (2,))
    with pytest.raises(ValueError, match="relu: takes one input"):
        _core.problem("relu", [x, x])
