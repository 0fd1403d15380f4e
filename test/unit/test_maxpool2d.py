"""maxpool2d: every algorithm x named problems x dtype x instruction set level."""

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

ALGORITHMS = in_own_dtype(_core.algorithms()["maxpool2d"])
DTYPES = [torch.float32, torch.float64]

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2x2": ((2, 3, 8, 8), {"kernel_size": 2}),
    "2x2_wide": ((1, 2, 6, 150), {"kernel_size": 2}),
    "2x2_odd": ((2, 3, 9, 37), {"kernel_size": 2}),
    "3x3_stride_2": ((2, 3, 13, 55), {"kernel_size": 3, "stride": 2}),
    "3x3_stride_2_ceil": ((1, 3, 14, 112), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "3x3_stride_2_padded": ((1, 5, 28, 56), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3_stride_1": ((1, 2, 14, 33), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "3x3_stride_3": ((1, 2, 14, 70), {"kernel_size": 3, "padding": (0, 1)}),
    "stride_beyond_kernel": ((1, 2, 20, 40), {"kernel_size": 2, "stride": 5}),
    "1x1": ((1, 2, 5, 6), {"kernel_size": 1}),
    "1x1_stride_2": ((1, 2, 5, 60), {"kernel_size": 1, "stride": 2}),
    "pair": ((2, 2, 11, 41), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
    "dilated": ((1, 3, 17, 60), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 3}),
    "dilated_pair": ((1, 3, 17, 60), {"kernel_size": 2, "stride": 1, "dilation": (2, 5)}),
    "empty_window": (
        (1, 1, 1, 1),
        {"kernel_size": 2, "stride": 2, "padding": 1, "dilation": 3, "ceil_mode": True},
    ),
    "ceil_drops_window": ((1, 1, 4, 4), {"kernel_size": 1, "stride": 3, "ceil_mode": True}),
    "ceil_padded": (
        (1, 2, 6, 7),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    "whole_image": ((3, 2, 9, 35), {"kernel_size": (9, 35)}),
    "very_wide": ((1, 1, 3, 9001), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "very_wide_kernel": ((1, 1, 2, 9001), {"kernel_size": (2, 4000), "stride": 1}),
    "very_tall": ((1, 2, 3000, 3), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "huge_stride": ((1, 2, 5, 5), {"kernel_size": 2, "stride": 1 << 30}),
    "unbatched": ((3, 12, 10), {"kernel_size": 2}),
    "empty_batch": ((0, 3, 8, 8), {"kernel_size": 2}),
    "many_planes": ((8, 70, 7, 7), {"kernel_size": 3, "stride": 2}),
}


def check(core: ModuleType, x: torch.Tensor, attributes: dict[str, Any]) -> None:
    expected = F.max_pool2d(x.double(), **attributes)
    check_algorithms(core, "maxpool2d", [x], expected, reduction=0, magnitude=0, **attributes)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    shape, attributes = CASES[name]
    check(core, torch.randn(shape, dtype=dtype), attributes)


def test_larger_than_the_caches(core: ModuleType) -> None:
    check(core, torch.randn(1, 2600, 2608), {"kernel_size": 3, "stride": 1, "padding": 1})


@pytest.mark.thinned(3)
@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_any_layout(core: ModuleType, name: str, layout: str, dtype: torch.dtype) -> None:
    shape, attributes = CASES[name]
    x = torch.randn(*shape[:-3], 19, *shape[-2:], dtype=dtype)
    actual = run_keeping_layout(core, "maxpool2d", x, layout, attributes)
    expected = F.max_pool2d(x.double(), **attributes).to(dtype)
    torch.testing.assert_close(actual, expected, equal_nan=True)


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilation = pair(1, 5), pair(1, 3)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    extra = draw(st.integers(0, 20)), draw(st.integers(0, 80))
    image = (
        max(1, d * (k - 1) + 1 - 2 * p) + e
        for k, d, p, e in zip(kernel, dilation, padding, extra, strict=True)
    )
    attributes = {
        "kernel_size": kernel,
        "stride": draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
    }
    return (*pair(1, 3), *image), attributes


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from(DTYPES))
def test_any_problem(problem: tuple[tuple[int, ...], dict[str, Any]], dtype: torch.dtype) -> None:
    shape, attributes = problem
    check(_core, torch.randn(shape, dtype=dtype), attributes)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_wins_and_infinity_counts(
    core: ModuleType, algorithm: str, stride: int, dtype: torch.dtype
) -> None:
    """Memory around the input, NaN too, is not read."""
    room = torch.full((3, 2, 9, 70), float("nan"), dtype=dtype)
    x = room[1].normal_()
    x[0, 4, 7], x[0, 3, 6], x[1, 0, 69], x[1, 5, 5] = (
        float(v) for v in ("nan", "inf", "nan", "inf")
    )
    x[1, 6:, 20:40] = -float("inf")
    attributes = {"kernel_size": 3, "stride": stride, "padding": 1}
    actual = make_problem(core, "maxpool2d", [x], **attributes).run(algorithm, x).torch()
    expected = F.max_pool2d(x, **attributes)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((1, 2, 5, 5), {}, "kernel_size must be given"),
        ((5, 5), {"kernel_size": 2}, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((1, 2, 0, 5), {"kernel_size": 2}, "empty image"),
        ((1, 0, 5, 5), {"kernel_size": 2}, "no channels"),
        ((1, 2, 5, 5), {"kernel_size": 0}, "at least 1"),
        ((1, 2, 5, 5), {"kernel_size": 2, "stride": 0}, "at least 1"),
        ((1, 2, 5, 5), {"kernel_size": 2, "dilation": -1}, "at least 1"),
        ((1, 2, 5, 5), {"kernel_size": 1 << 40}, "must not pass"),
        ((1, 2, 5, 5), {"kernel_size": 3, "padding": 2}, "from 0 to half of kernel_size"),
        ((1, 2, 5, 5), {"kernel_size": 3, "padding": -1}, "from 0 to half of kernel_size"),
        ((1, 2, 5, 5), {"kernel_size": 8}, "the window spans 8x8"),
        ((1, 2, 5, 5), {"kernel_size": (2, 3, 4)}, "kernel_size must be an integer or 2 integers"),
    ],
)
def test_what_does_not_fit_is_told(
    shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("maxpool2d", [_core.Spec("float32", shape)], None, attributes)


@pytest.mark.parametrize("shape", [(1 << 40, 3, 8, 8), (1, 3, 1 << 33, 8), (1, 3, 8, 1 << 33)])
def test_huge_shapes_are_planned(shape: tuple[int, ...]) -> None:
    spec = _core.Spec("float32", shape)
    problem = _core.problem("maxpool2d", [spec], None, {"kernel_size": 2})
    assert problem.output.shape == (*shape[:2], shape[2] // 2, shape[3] // 2)
    for algorithm in ALGORITHMS:
        assert problem.workspace_bytes(algorithm) < 1 << 30
