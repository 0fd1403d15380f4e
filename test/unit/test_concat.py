"""concat: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import pytest
import torch

from ai3 import _core
from test.unit.checks import check_algorithms

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "dim", "extents"),
    [
        ((2, 3, 4, 5), 1, [3, 1, 6]),
        ((2, 3, 4, 5), 0, [1, 2]),
        ((2, 3, 4, 5), -1, [5, 0, 7, 1]),
        ((2, 3, 4, 5), 2, [4]),
        ((7,), 0, [7, 1]),
        ((3, 2), 1, list(range(64))),
        ((2, 64, 40, 41), 1, [64, 33]),
        ((0, 3, 4), 1, [3, 5]),
        ((2, 3, 4), 1, [0, 0]),
    ],
)
def test_equals_torch(
    core: ModuleType, shape: tuple[int, ...], dim: int, extents: list[int], dtype: torch.dtype
) -> None:
    inputs = []
    for extent in extents:
        one = list(shape)
        one[dim] = extent
        inputs.append(torch.randn(one, dtype=dtype))
    expected = torch.cat(inputs, dim).double()
    check_algorithms(core, "concat", inputs, expected, reduction=0, magnitude=0, dim=dim)


@pytest.mark.parametrize(
    ("shapes", "dim", "message"),
    [
        ([(2, 3), (2, 4)], 0, r"must differ in dimension 0 only"),
        ([(2, 3), (2, 3, 1)], 1, r"must differ in dimension 1 only"),
        ([(2, 3)], 2, "dim must be from -2 to 1, not 2"),
        ([(2, 3)], -3, "dim must be from -2 to 1, not -3"),
        ([()], 0, "must have a dimension"),
        ([], 0, "takes 1 to 64 inputs"),
        ([(2,)] * 65, 0, "takes 1 to 64 inputs"),
        ([(1 << 62,)] * 2, 0, "overflows"),
    ],
)
def test_what_does_not_fit_is_told(shapes: list[tuple[int, ...]], dim: int, message: str) -> None:
    specs = [_core.Spec("float32", shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        _core.problem("concat", specs, None, {"dim": dim})


def test_one_dtype() -> None:
    with pytest.raises(ValueError, match=r"unlike float32\(2,\) and float64\(2,\)"):
        _core.problem("concat", [_core.Spec("float32", (2,)), _core.Spec("float64", (2,))])
