"""Activation functions: each operation x shapes x dtype x instruction set level, and the accuracy
of the elementary functions behind them."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import (
    LAYOUTS,
    assert_same_bits,
    check_algorithms,
    make_problem,
    run_in_layout,
    run_in_place,
)

DTYPES = [torch.float32, torch.float64]
Function = Callable[[torch.Tensor], torch.Tensor]

FUNCTIONS: dict[str, tuple[str, dict[str, object], Function]] = {
    "relu6": ("relu6", {}, F.relu6),
    "leaky_relu": ("leaky_relu", {}, F.leaky_relu),
    "leaky_relu 0.3": ("leaky_relu", {"negative_slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
    "silu": ("silu", {}, F.silu),
    "hardswish": ("hardswish", {}, F.hardswish),
    "hardsigmoid": ("hardsigmoid", {}, F.hardsigmoid),
    "sigmoid": ("sigmoid", {}, torch.sigmoid),
    "tanh": ("tanh", {}, torch.tanh),
    "gelu": ("gelu", {}, F.gelu),
    "gelu tanh": ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    "elu": ("elu", {}, F.elu),
    "elu 0.7": ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
}

named = pytest.mark.parametrize("name", FUNCTIONS)


def units_apart(actual: torch.Tensor, exact: np.ndarray) -> float:  # type: ignore[type-arg]
    """The largest difference in units of the last place of the exact value."""
    unit = np.spacing(np.abs(exact.astype(actual.numpy().dtype))).astype(np.longdouble)
    return float((np.abs(actual.numpy().astype(np.longdouble) - exact) / unit).max())


@pytest.mark.thinned(3)
@named
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (33,), (5, 7), (2, 3, 4, 5), (1, 0, 3), (3, 70001)])
def test_equals_torch(
    core: ModuleType, name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    op, attributes, function = FUNCTIONS[name]
    x = torch.randn(shape, dtype=dtype) * 4
    check_algorithms(core, op, [x], function(x.double()), reduction=1, magnitude=4, **attributes)


@named
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_range(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    """Numbers of every size, the infinities and NaN give what torch gives for float64."""
    op, attributes, function = FUNCTIONS[name]
    info = torch.finfo(dtype)
    sizes = torch.logspace(-40, 38, 3000, base=10, dtype=torch.float64)
    special = torch.tensor([0.0, info.max, info.tiny, float("inf"), 88.7, 709.7, 1.0, 3.0, 6.0])
    x = torch.cat([sizes, special.double()]).to(dtype)
    x = torch.cat([x, -x, torch.tensor([float("nan")], dtype=dtype)])
    actual = make_problem(core, op, [x], **attributes).run("direct", x).torch()
    expected = function(x.double()).to(dtype)
    assert_same_bits(actual.isnan(), expected.isnan())
    eps = info.eps
    torch.testing.assert_close(
        actual, expected, rtol=8 * eps, atol=8 * eps, equal_nan=True, check_dtype=True
    )
    large = x.abs() > 100
    torch.testing.assert_close(
        actual[large], expected[large], rtol=8 * eps, atol=100 * info.tiny, equal_nan=True
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_elementary_functions(core: ModuleType, dtype: torch.dtype) -> None:
    """tanh, expm1 (elu), exp (sigmoid) to the last places, near zero too."""
    small = torch.logspace(-30, 0, 20001, dtype=dtype, base=10)
    x = torch.cat([torch.linspace(-20, 20, 50001, dtype=dtype), small, -small])

    def run(op: str) -> torch.Tensor:
        result: torch.Tensor = make_problem(core, op, [x]).run("direct", x).torch()
        return result

    wide = x.numpy().astype(np.longdouble)
    assert units_apart(run("tanh"), np.tanh(wide)) < 3
    assert units_apart(run("elu"), np.where(wide < 0, np.expm1(wide), wide)) < 2.5
    assert units_apart(run("sigmoid"), 1 / (1 + np.exp(-wide))) < 3
    # erf, by way of the part of gelu that does not cancel
    positive = x[x > 1e-3]
    exact = torch.special.erf(positive.double() * 0.5**0.5)
    found = make_problem(core, "gelu", [positive]).run("direct", positive).torch()
    assert units_apart(found, (positive.double() * 0.5 * (1 + exact)).numpy()) < 4


@named
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(core: ModuleType, name: str, layout: str) -> None:
    op, attributes, function = FUNCTIONS[name]
    x = torch.randn(2, 19, 5, 3)
    spec = core.Spec("float32", x.shape, layout)
    problem = core.problem(op, [spec], None, attributes)
    assert problem.output == spec
    actual = run_in_layout(core, problem, "direct", x)
    torch.testing.assert_close(actual, function(x), rtol=1e-6, atol=1e-6)


@named
def test_in_place(core: ModuleType, name: str) -> None:
    op, attributes, _ = FUNCTIONS[name]
    x = torch.randn(70001)
    problem = make_problem(core, op, [x], **attributes)
    assert_same_bits(run_in_place(core, problem, "direct", x), problem.run("direct", x).torch())


def test_larger_than_the_caches(core: ModuleType) -> None:
    x = torch.randn(2, 3500007)
    actual = make_problem(core, "hardswish", [x]).run("direct", x).torch()
    torch.testing.assert_close(actual, F.hardswish(x), rtol=2e-6, atol=2e-6)


def test_what_does_not_fit_is_told() -> None:
    x = _core.Spec("float32", (2,))
    with pytest.raises(ValueError, match="silu: takes one input"):
        _core.problem("silu", [x, x])
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', not 'erf'"):
        _core.problem("gelu", [x], None, {"approximate": "erf"})
    with pytest.raises(ValueError, match="negative_slope must be a number"):
        _core.problem("leaky_relu", [x], None, {"negative_slope": "steep"})
