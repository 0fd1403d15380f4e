"""flatten: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import pytest
import torch

from ai3 import _core
from test.unit.checks import check_algorithms

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "start", "end"),
    [
        ((), 0, -1),
        ((), -1, 0),
        ((5,), 0, 0),
        ((2, 3, 4, 5), 0, -1),
        ((2, 3, 4, 5), 1, -1),
        ((2, 3, 4, 5), 1, 2),
        ((2, 3, 4, 5), -2, -1),
        ((2, 3, 4, 5), 2, 2),
        ((0, 3, 4), 1, -1),
        ((3, 0, 4), 0, 1),
        ((4, 300, 301), 1, 2),
    ],
)
def test_equals_torch(
    core: ModuleType, shape: tuple[int, ...], start: int, end: int, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    expected = x.double().flatten(start, end)
    check_algorithms(
        core, "flatten", [x], expected, reduction=0, magnitude=0, start_dim=start, end_dim=end
    )


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (2, 1, "start_dim 2 comes after end_dim 1"),
        (3, -1, "start_dim must be from -3 to 2, not 3"),
        (0, -4, "end_dim must be from -3 to 2, not -4"),
    ],
)
def test_what_does_not_fit_is_told(start: int, end: int, message: str) -> None:
    x = _core.Spec("float32", (2, 3, 4))
    with pytest.raises(ValueError, match=message):
        _core.problem("flatten", [x], None, {"start_dim": start, "end_dim": end})


def test_huge_shapes() -> None:
    x = _core.Spec("float32", (1 << 20, 1 << 20, 4))
    assert _core.problem("flatten", [x]).output.shape == (1 << 42,)
    empty = _core.Spec("float32", (0, 1 << 40, 1 << 40))
    with pytest.raises(ValueError, match="overflows"):
        _core.problem("flatten", [empty], None, {"start_dim": 1})
