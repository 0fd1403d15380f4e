"""interpolate: modes x sizes x dtype x instruction set level."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import check_algorithms, make_problem

DTYPES = [torch.float32, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"},
    "nearest-exact": {"mode": "nearest-exact"},
    "bilinear": {"mode": "bilinear"},
    "bilinear corners": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic"},
    "bicubic corners": {"mode": "bicubic", "align_corners": True},
}


def check(core: ModuleType, shape: tuple[int, ...], dtype: torch.dtype, **attributes: Any) -> None:
    x = torch.randn(shape, dtype=dtype)
    expected = F.interpolate(x.double(), **attributes)
    check_algorithms(core, "interpolate", [x], expected, reduction=16, magnitude=4, **attributes)


@dtypes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 3, 7, 9), (14, 18)),
        ((2, 3, 7, 9), (20, 31)),
        ((1, 2, 28, 28), (224, 224)),
        ((2, 3, 20, 31), (7, 9)),
        ((1, 1, 1, 1), (5, 6)),
        ((1, 2, 5, 6), (1, 1)),
        ((1, 2, 5, 6), (5, 6)),
        ((0, 2, 5, 6), (3, 3)),
        ((1, 70, 3, 3), (4, 2)),
    ],
)
def test_to_a_size(
    core: ModuleType,
    mode: str,
    shape: tuple[int, ...],
    size: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    check(core, shape, dtype, size=size, **MODES[mode])


@dtypes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [2, 2.0, 0.5, 1.7, (2.0, 0.6), (3, 1)])
@pytest.mark.parametrize("recompute", [None, True])
def test_by_a_factor(
    core: ModuleType, mode: str, factor: Any, recompute: bool | None, dtype: torch.dtype
) -> None:
    given = tuple(map(float, factor)) if isinstance(factor, tuple) else float(factor)
    x = torch.randn(2, 3, 11, 13, dtype=dtype)
    attributes = {"recompute_scale_factor": recompute, **MODES[mode]}
    expected = F.interpolate(x.double(), scale_factor=given, **attributes)
    check_algorithms(
        core,
        "interpolate",
        [x],
        expected,
        reduction=16,
        magnitude=4,
        scale_factor=factor,
        **attributes,
    )


@given(
    shape=st.tuples(*[st.integers(1, 30)] * 2),
    size=st.tuples(*[st.integers(1, 60)] * 2),
    mode=st.sampled_from(list(MODES)),
)
def test_any_size(shape: tuple[int, int], size: tuple[int, int], mode: str) -> None:
    """Nearest elements are torch's in float32, where rounding decides which they are."""
    x = torch.randn(1, 2, *shape)
    problem = make_problem(_core, "interpolate", [x], size=size, **MODES[mode])
    expected = F.interpolate(x, size=size, **MODES[mode])
    tolerance = 0 if "nearest" in mode else 1e-4
    actual = problem.run("direct", x).torch()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((2, 3, 4), {"size": 2}, r"input must be \(N, C, H, W\), not \(2, 3, 4\)"),
        ((1, 2, 3, 4), {}, "needs either size or scale_factor"),
        ((1, 2, 3, 4), {"size": 2, "scale_factor": 2}, "needs either size or scale_factor"),
        ((1, 2, 3, 4), {"size": 2, "mode": "area"}, "mode must be 'nearest', .* not 'area'"),
        ((1, 2, 3, 4), {"size": 2, "align_corners": True}, "align_corners is for"),
        ((1, 2, 3, 4), {"size": (0, 2)}, r"the output \(0, 2\)"),
        ((1, 2, 3, 4), {"scale_factor": 0.1}, r"the output \(0, 0\)"),
        ((1, 2, 3, 4), {"scale_factor": -1.0}, "scale_factor -1.0+ is out of range"),
        ((1, 2, 3, 4), {"scale_factor": (1.0, 2.0, 3.0)}, "scale_factor must be a number or 2"),
        ((1, 2, 3, 4), {"size": (1, 2, 3)}, "size must be an integer or 2 integers"),
    ],
)
def test_what_does_not_fit_is_told(
    shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("interpolate", [_core.Spec("float32", shape)], None, attributes)
