"""add: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import numpy as np
import pytest
import torch

from ai3 import _core
from test.unit.checks import check_algorithms, make_problem, run_in_place

ALGORITHMS = _core.algorithms()["add"]
DTYPES = [torch.float32, torch.float64]

SHAPES = {
    "equal": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "equal_large": ((3, 70001), (3, 70001)),
    "numbers": ((), ()),
    "number": ((4, 5), ()),
    "to_number": ((), (4, 5)),
    "row": ((4, 33), (33,)),
    "to_row": ((33,), (4, 33)),
    "column": ((4, 33), (4, 1)),
    "outer": ((4, 1), (1, 33)),
    "to_outer": ((1, 33), (4, 1)),
    "channels": ((2, 3, 4, 5), (3, 1, 1)),
    "inner": ((2, 3, 4, 5), (2, 1, 4, 1)),
    "both": ((2, 1, 4, 1), (1, 3, 1, 5)),
    "ones": ((1, 1, 1), (1,)),
    "empty": ((0, 3), (1, 3)),
    "empty_by_broadcasting": ((2, 0, 3), (2, 1, 1)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("alpha", [1, -2.5])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_torch(core: ModuleType, name: str, alpha: float, dtype: torch.dtype) -> None:
    a, b = (torch.randn(shape, dtype=dtype) for shape in SHAPES[name])
    expected = torch.add(a.double(), b.double(), alpha=alpha)
    check_algorithms(core, "add", [a, b], expected, reduction=1, magnitude=4, alpha=alpha)


def test_larger_than_the_caches(core: ModuleType) -> None:
    a, b = torch.randn(2, 3500007), torch.randn(2, 1)
    check_algorithms(core, "add", [a, b], a.double() + b.double(), reduction=1, magnitude=4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", [(3, 70001), (70001,), (3, 1), ()])
def test_in_place_on_the_first_input(
    core: ModuleType, algorithm: str, shape: tuple[int, ...]
) -> None:
    a, b = torch.randn(3, 70001), torch.randn(shape)
    assert torch.equal(
        run_in_place(core, make_problem(core, "add", [a, b]), algorithm, a, b), a + b
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity(core: ModuleType, algorithm: str) -> None:
    special = torch.tensor([1.0, float("nan"), float("inf"), -float("inf")])
    a, b = special.repeat(16), special.repeat_interleave(16)
    actual = make_problem(core, "add", [a, b]).run(algorithm, a, b).torch()
    torch.testing.assert_close(actual, a + b, equal_nan=True)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (2, 4), r"shapes \(2, 3\) and \(2, 4\) cannot be broadcast"),
        ((0, 3), (2, 3), "cannot be broadcast"),
        ((1 << 40, 1), (1, 1 << 40), "overflows"),
    ],
)
def test_what_does_not_fit_is_told(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("add", [_core.Spec("float32", a), _core.Spec("float32", b)])


def test_one_dtype() -> None:
    with pytest.raises(ValueError, match="must have one dtype"):
        _core.problem("add", [_core.Spec("float32", (2,)), _core.Spec("float64", (2,))])


def test_inputs_are_not_overwritten(core: ModuleType) -> None:
    a, b = np.ones(100, np.float32), np.ones(100, np.float32)
    core.problem("add", [core.Spec("float32", (100,))] * 2).run("direct", a, b)
    assert (a == 1).all() and (b == 1).all()
