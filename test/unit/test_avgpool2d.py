"""avgpool2d: every algorithm x named problems x dtype x instruction set level."""

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

ALGORITHMS = in_own_dtype(_core.algorithms()["avgpool2d"])
DTYPES = [torch.float32, torch.float64]

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2x2": ((2, 3, 8, 8), {"kernel_size": 2}),
    "2x2_wide": ((1, 2, 7, 151), {"kernel_size": 2}),
    "3x3_stride_2": ((2, 3, 13, 55), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3_stride_1": ((1, 2, 14, 33), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "inside_only": (
        (1, 2, 14, 33),
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    ),
    "ceil": ((1, 2, 14, 33), {"kernel_size": 4, "stride": 3, "ceil_mode": True}),
    "ceil_padded": (
        (1, 2, 6, 7),
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    ),
    "ceil_inside_only": (
        (1, 2, 6, 7),
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    "divisor": ((1, 2, 8, 9), {"kernel_size": 3, "divisor_override": 5}),
    "negative_divisor": ((1, 2, 8, 9), {"kernel_size": 2, "padding": 1, "divisor_override": -3}),
    "whole_image": ((3, 20, 7, 7), {"kernel_size": 7}),
    "pair": ((2, 2, 11, 41), {"kernel_size": (3, 2), "stride": (1, 3), "padding": (1, 0)}),
    "stride_beyond_kernel": ((1, 2, 20, 40), {"kernel_size": 2, "stride": 5}),
    "very_wide": ((1, 1, 3, 9001), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "large_kernel": ((1, 1, 40, 90), {"kernel_size": 31, "stride": 1, "padding": 15}),
    "unbatched": ((3, 12, 10), {"kernel_size": 2}),
    "empty_batch": ((0, 3, 8, 8), {"kernel_size": 2}),
}


def check(core: ModuleType, x: torch.Tensor, attributes: dict[str, Any]) -> None:
    kernel = attributes["kernel_size"]
    window = kernel * kernel if isinstance(kernel, int) else kernel[0] * kernel[1]
    divisor = abs(attributes.get("divisor_override") or window)
    expected = F.avg_pool2d(x.double(), **attributes)
    check_algorithms(
        core,
        "avgpool2d",
        [x],
        expected,
        reduction=window,
        magnitude=4 * max(1, window / divisor),
        **attributes,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    shape, attributes = CASES[name]
    check(core, torch.randn(shape, dtype=dtype), attributes)


@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_any_layout(core: ModuleType, name: str, layout: str, dtype: torch.dtype) -> None:
    shape, attributes = CASES[name]
    x = torch.randn(*shape[:-3], 19, *shape[-2:], dtype=dtype)
    actual = run_keeping_layout(core, "avgpool2d", x, layout, attributes)
    expected = F.avg_pool2d(x.double(), **attributes).to(dtype)
    torch.testing.assert_close(actual, expected, equal_nan=True)


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    image = draw(st.integers(5, 20)), draw(st.integers(5, 80))
    divisors = st.none() | st.integers(-9, 9).filter(bool)
    attributes = {
        "kernel_size": kernel,
        "stride": draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
        "divisor_override": draw(divisors),
    }
    return (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *image), attributes


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from(DTYPES))
def test_any_problem(problem: tuple[tuple[int, ...], dict[str, Any]], dtype: torch.dtype) -> None:
    shape, attributes = problem
    check(_core, torch.randn(shape, dtype=dtype), attributes)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(
    core: ModuleType, algorithm: str
) -> None:
    """Memory around the input, NaN too, is not read."""
    room = torch.full((3, 2, 9, 70), float("nan"))
    x = room[1].normal_()
    x[0, 4, 7], x[0, 8, 69], x[1, 0, 0] = float("nan"), float("inf"), -float("inf")
    attributes = {"kernel_size": 3, "stride": 2, "padding": 1}
    actual = make_problem(core, "avgpool2d", [x], **attributes).run(algorithm, x).torch()
    expected = F.avg_pool2d(x, **attributes)
    torch.testing.assert_close(actual, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "kernel_size must be given"),
        ({"kernel_size": 2, "padding": 2}, "from 0 to half of kernel_size"),
        ({"kernel_size": 2, "divisor_override": 0}, "divisor_override must not be 0"),
        ({"kernel_size": 2, "divisor_override": 2.5}, "divisor_override must be an integer"),
        ({"kernel_size": 2, "ceil_mode": 1}, "ceil_mode must be True or False"),
        ({"kernel_size": 8}, "the window spans 8x8"),
    ],
)
def test_what_does_not_fit_is_told(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("avgpool2d", [_core.Spec("float32", (1, 2, 5, 5))], None, attributes)
