"""matmul: shapes x dtype x instruction set level."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ai3 import _core
from test.unit.checks import check_algorithms, make_problem

DTYPES = [torch.float32, torch.float64]

SHAPES = {
    "square": ((7, 7), (7, 7)),
    "tiles": ((29, 40), (40, 65)),
    "deep": ((5, 1500), (1500, 3)),
    "wide": ((100, 33), (33, 300)),
    "tall": ((300, 33), (33, 31)),
    "batch": ((3, 4, 49, 32), (3, 4, 32, 49)),
    "broadcast": ((3, 1, 5, 8), (4, 8, 9)),
    "one_matrix": ((6, 5, 8), (8, 9)),
    "to_one_matrix": ((5, 8), (2, 3, 8, 9)),
    "vector_matrix": ((8,), (8, 9)),
    "matrix_vector": ((2, 5, 8), (8,)),
    "vectors": ((800,), (800,)),
    "one": ((1, 1), (1, 1)),
    "empty": ((0, 3), (3, 4)),
    "of_nothing": ((2, 0), (0, 4)),
    "empty_batch": ((0, 2, 3), (3, 4)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_torch(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    a, b = (torch.randn(shape, dtype=dtype) for shape in SHAPES[name])
    depth = a.shape[-1]
    expected = a.double() @ b.double()
    check_algorithms(core, "matmul", [a, b], expected, reduction=depth, magnitude=4)


@given(m=st.integers(1, 60), k=st.integers(1, 60), n=st.integers(1, 60), batch=st.integers(1, 3))
def test_any_size(m: int, k: int, n: int, batch: int) -> None:
    a, b = torch.rand(batch, m, k), torch.rand(k, n)
    actual = make_problem(_core, "matmul", [a, b]).run("direct", a, b).torch()
    torch.testing.assert_close(actual, a @ b)


def test_nothing_past_the_end_is_read(core: ModuleType) -> None:
    """Tails of the last row of the second matrix lie at the end of memory."""
    for n in (1, 3, 17, 33):
        memory = np.full(4 * n + 64, np.nan, np.float32)
        memory[: 4 * n] = 1
        a, b = torch.ones(3, 4), torch.from_numpy(memory[: 4 * n]).view(4, n)
        assert (make_problem(core, "matmul", [a, b]).run("direct", a, b).torch() == 4).all()


def test_nan_and_infinity(core: ModuleType) -> None:
    a, b = torch.rand(20, 30), torch.rand(30, 40)
    a[3, 4], b[5, 6] = float("nan"), float("inf")
    actual = make_problem(core, "matmul", [a, b]).run("direct", a, b).torch()
    torch.testing.assert_close(actual, a @ b, equal_nan=True)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (4, 5), r"the last dimension of float32\(2, 3\) must be the last but one"),
        ((2, 3), (4,), "must be the only of"),
        ((), (4,), "an input must have a dimension"),
        ((2, 2, 3), (3, 3, 4), "cannot be broadcast"),
    ],
)
def test_what_does_not_fit_is_told(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"matmul: .*{message}"):
        _core.problem("matmul", [_core.Spec("float32", a), _core.Spec("float32", b)])
