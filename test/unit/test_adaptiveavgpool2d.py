"""adaptiveavgpool2d: every algorithm x named problems x dtype x instruction set level."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.compare import in_own_dtype
from test.unit.checks import check_algorithms, make_problem, run_keeping_layout

ALGORITHMS = in_own_dtype(_core.algorithms()["adaptiveavgpool2d"])
DTYPES = [torch.float32, torch.float64]

CASES: dict[str, tuple[tuple[int, ...], Any]] = {
    "one_bin": ((2, 70, 7, 7), 1),
    "one_bin_wide": ((1, 3, 2, 300), (1, 1)),
    "one_row_of_bins": ((1, 3, 8, 9), (1, 4)),
    "one_column_of_bins": ((1, 3, 8, 9), (4, 1)),
    "even": ((2, 5, 14, 14), 7),
    "even_pair": ((1, 2, 12, 40), (4, 20)),
    "even_by_3": ((1, 2, 12, 45), (4, 15)),
    "uneven": ((2, 3, 13, 17), (5, 6)),
    "same": ((2, 3, 6, 6), 6),
    "more_than_there_are": ((1, 3, 5, 4), (7, 9)),
    "kept": ((1, 3, 5, 4), (-1, 2)),
    "both_kept": ((1, 3, 5, 4), -1),
    "unbatched": ((3, 9, 9), 2),
    "empty_batch": ((0, 3, 9, 9), 2),
    "no_channels": ((2, 0, 9, 9), 2),
    "no_bins": ((2, 3, 9, 9), (0, 2)),
}


def check(core: ModuleType, x: torch.Tensor, size: Any) -> None:
    pair = (size, size) if isinstance(size, int) else size
    expected = F.adaptive_avg_pool2d(x.double(), [None if n < 0 else n for n in pair])
    check_algorithms(
        core,
        "adaptiveavgpool2d",
        [x],
        expected,
        reduction=x.shape[-1] * x.shape[-2],
        magnitude=4,
        output_size=size,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    shape, size = CASES[name]
    check(core, torch.randn(shape, dtype=dtype), size)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 20), st.integers(1, 50)),
    st.tuples(st.integers(1, 20), st.integers(1, 40)),
    st.sampled_from(DTYPES),
)
def test_any_problem(shape: tuple[int, ...], size: tuple[int, int], dtype: torch.dtype) -> None:
    check(_core, torch.randn(shape, dtype=dtype), size)


@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [19, 64])
@pytest.mark.parametrize("size", [1, (7, 7), (3, 5), (9, 13)])
def test_any_layout(
    core: ModuleType, channels: int, size: Any, layout: str, dtype: torch.dtype
) -> None:
    x = torch.randn(2, channels, 7, 9, dtype=dtype)
    actual = run_keeping_layout(core, "adaptiveavgpool2d", x, layout, {"output_size": size})
    expected = F.adaptive_avg_pool2d(x.double(), size).to(dtype)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(
    core: ModuleType, algorithm: str, size: int
) -> None:
    """Memory around the input, NaN too, is not read."""
    room = torch.full((3, 20, 8, 9), float("nan"))
    x = room[1].normal_()
    x[0, 4, 7], x[3, 7, 8], x[19, 0, 0] = float("nan"), float("inf"), -float("inf")
    problem = make_problem(core, "adaptiveavgpool2d", [x], output_size=size)
    expected = F.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(problem.run(algorithm, x).torch(), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((1, 2, 5, 5), {}, "output_size must be given"),
        ((1, 2, 5, 5), {"output_size": -2}, "output_size must be from 0 to 2\\^30, or -1"),
        ((1, 2, 5, 5), {"output_size": 1 << 40}, "output_size must be from 0 to 2\\^30, or -1"),
        ((1, 2, 0, 5), {"output_size": 1}, "empty image"),
        ((2, 5), {"output_size": 1}, r"input must be \(N, C, H, W\)"),
    ],
)
def test_what_does_not_fit_is_told(
    shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("adaptiveavgpool2d", [_core.Spec("float32", shape)], None, attributes)
