"""concat: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import pytest
import torch

from ai3 import _core
from test.unit.checks import LAYOUTS, check_algorithms, run_in_layout

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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "dim", "extents"),
    [
        ((2, 3, 4, 5), 1, [32, 64, 19]),
        ((2, 3, 4, 5), 1, [16, 16]),
        ((3, 4, 5), 0, [32, 3]),
        ((2, 19, 4, 5), 0, [1, 2, 3]),
    ],
)
def test_any_layout(
    core: ModuleType, layout: str, shape: tuple[int, ...], dim: int, extents: list[int]
) -> None:
    inputs = [torch.randn(*shape[:dim], n, *shape[dim + 1 :]) for n in extents]
    specs = [core.Spec("float32", x.shape, layout) for x in inputs]
    problem = core.problem("concat", specs, None, {"dim": dim})
    assert problem.output.layout == layout
    assert torch.equal(run_in_layout(core, problem, "direct", *inputs), torch.cat(inputs, dim))


def test_layouts_that_do_not_fit() -> None:
    parts = [_core.Spec("float32", (1, n, 3, 3), "blocked") for n in (19, 32)]
    with pytest.raises(ValueError, match=r"float32\(1, 19, 3, 3\) blocked must be dense, as its"):
        _core.problem("concat", parts, None, {"dim": 1})
    with pytest.raises(ValueError, match="must be dense to go on along dimension 2"):
        _core.problem("concat", parts[:1], None, {"dim": 2})
    with pytest.raises(ValueError, match="differ in dimension 1 only"):
        _core.problem("concat", [parts[1], _core.Spec("float32", (1, 3, 3, 3))], None, {"dim": 1})


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
