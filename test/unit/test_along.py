"""What goes along one dimension: dimensions, dtypes, NaN and equal values."""

from types import ModuleType
from typing import Any

import pytest
import torch

from test.unit.checks import make_problem

DTYPES = [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8]
SHAPES = [((5,), 0), ((3, 4, 70), 1), ((3, 4, 70), 2), ((2, 300), 0), ((1, 1), 0), ((200, 3), -2)]


def both(core: ModuleType, op: str, x: torch.Tensor, threads: int, **attributes: Any) -> Any:
    problem = make_problem(core, op, [x], threads=threads, **attributes)
    direct, reference = problem.run("direct", x).torch(), problem.reference(x).torch()
    assert direct.dtype == reference.dtype
    return direct, reference


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_torch(
    core: ModuleType, dtype: torch.dtype, shape: Any, dim: int, threads: int
) -> None:
    # Few values, so that many are equal.
    x = torch.randint(0, 5, shape).to(dtype)
    if dtype.is_floating_point and x.numel() > 4:
        x.view(-1)[1::7] = float("nan")
    cases = {
        "argmax": x.argmax(dim),
        "argmin": x.argmin(dim),
        "prod": x.prod(dim),
        "cumsum": x.cumsum(dim),
        "cumprod": x.cumprod(dim),
        "sort": x.sort(dim=dim, stable=True)[0],
        "argsort": x.argsort(dim=dim, stable=True),
    }
    for op, expected in cases.items():
        for actual in both(core, op, x, threads, dim=dim):
            assert actual.dtype == expected.dtype
            torch.testing.assert_close(actual, expected, equal_nan=True)
    for op in ("sort", "argsort"):
        expected = x.sort(dim=dim, descending=True, stable=True)[op == "argsort"]
        for actual in both(core, op, x, threads, dim=dim, descending=True):
            torch.testing.assert_close(actual, expected, equal_nan=True)


def test_all_dimensions(core: ModuleType) -> None:
    x = torch.randn(3, 4, 5)
    for actual in both(core, "argmax", x, 1):
        assert torch.equal(actual, x.argmax())
    for actual in both(core, "prod", x, 1, keepdim=True):
        torch.testing.assert_close(actual, x.prod().reshape(1, 1, 1))


def test_empty(core: ModuleType) -> None:
    x = torch.randn(3, 0)
    for actual in both(core, "prod", x, 1, dim=1):
        assert torch.equal(actual, torch.ones(3))
    for actual in both(core, "argmax", x, 1, dim=0):
        assert actual.shape == (0,)
    for actual in both(core, "sort", x, 1, dim=1):
        assert actual.shape == (3, 0)
    with pytest.raises(ValueError, match="no elements"):
        make_problem(core, "argmax", [x], dim=1)


def test_sums_of_float32_are_double(core: ModuleType) -> None:
    x = torch.full((100_000,), 0.1)
    for actual in both(core, "cumsum", x, 2, dim=0):
        assert abs(actual[-1].item() - 1e4) < 0.01
