"""mean, sum, amax: dimensions x dtype x layout x instruction set level."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ai3 import _core
from test.unit.checks import LAYOUTS, check_algorithms, make_problem, run_in_layout

DTYPES = [torch.float32, torch.float64]
operations = pytest.mark.parametrize("op", ["mean", "sum", "amax"])


def reduced(op: str, x: torch.Tensor, dim: Any, keepdim: bool) -> torch.Tensor:
    dims = tuple(range(x.dim())) if dim is None else dim
    result: torch.Tensor = getattr(torch, op)(x, dim=dims, keepdim=keepdim)
    return result


@operations
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((2, 30, 7, 7), (2, 3)),
        ((2, 7, 7, 96), (1, 2)),
        ((2, 7, 7, 23), (1, 2)),
        ((5, 33), -1),
        ((5, 33), 0),
        ((2, 3, 4, 5), None),
        ((2, 3, 4, 5), (0, 2)),
        ((2, 3, 4, 5), (1, 3)),
        ((2, 1, 4, 1), (1, 3)),
        ((1, 1), 0),
        ((7,), 0),
        ((3, 20011), 1),
        ((20011, 3), 0),
    ],
)
def test_equals_torch(
    core: ModuleType, op: str, shape: tuple[int, ...], dim: Any, keepdim: bool, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    expected = reduced(op, x.double(), dim, keepdim)
    terms = x.numel() // max(expected.numel(), 1)
    partial = terms**0.5  # the size that sums of random signs grow to
    check_algorithms(
        core,
        op,
        [x],
        expected,
        reduction=terms,
        magnitude=2 * partial / (terms if op == "mean" else 1),
        dim=dim,
        keepdim=keepdim,
    )


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    bits=st.integers(1, 31),
    op=st.sampled_from(["mean", "sum", "amax"]),
)
def test_any_dimensions(shape: list[int], bits: int, op: str) -> None:
    dims = tuple(d for d in range(len(shape)) if bits >> d & 1)
    x = torch.rand(shape, dtype=torch.float64)
    problem = make_problem(_core, op, [x], dim=dims)
    expected = reduced(op, x, dims or None, False)
    torch.testing.assert_close(problem.run("direct", x).torch(), expected)
    torch.testing.assert_close(problem.reference(x).torch(), expected)


@operations
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", [(2, 3), (3,), (0, 2, 3)])
@pytest.mark.parametrize("channels", [19, 64])
def test_any_layout(
    core: ModuleType, op: str, layout: str, dim: tuple[int, ...], channels: int
) -> None:
    x = torch.randn(2, channels, 5, 3)
    spec = core.Spec("float32", x.shape, layout)
    problem = core.problem(op, [spec], None, {"dim": dim, "keepdim": True})
    assert problem.output.layout == layout
    expected = reduced(op, x, dim, True)
    torch.testing.assert_close(run_in_layout(core, problem, "direct", x), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vector_of_channels(core: ModuleType, layout: str) -> None:
    """Without its pixels an image is dense, if its channels are whole blocks."""
    spec = core.Spec("float32", (2, 64, 5, 3), layout)
    problem = core.problem("mean", [spec], None, {"dim": (2, 3)})
    assert problem.output == core.Spec("float32", (2, 64))
    for shape, dim in (((2, 19, 5, 3), (2, 3)), ((2, 64, 5, 3), (1, 2, 3))):
        if layout == "blocked":
            with pytest.raises(ValueError, match="must be dense"):
                spec = core.Spec("float32", shape, layout)
                core.problem("mean", [spec], None, {"dim": dim})


@operations
@pytest.mark.parametrize("shape", [(40, 40), (1600,)])
def test_nan_and_infinity(core: ModuleType, op: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).flatten()
    x[5], x[700], x[1234] = float("inf"), float("nan"), -float("inf")
    x = x.view(shape)
    for dim in range(len(shape)):
        actual = make_problem(core, op, [x], dim=dim).run("direct", x).torch()
        torch.testing.assert_close(actual, reduced(op, x, dim, False), equal_nan=True)


def test_of_nothing(core: ModuleType) -> None:
    x = torch.empty(3, 0)
    assert make_problem(core, "sum", [x], dim=1).run("direct", x).numpy().tolist() == [0, 0, 0]
    assert make_problem(core, "mean", [x], dim=1).run("direct", x).torch().isnan().all()
    with pytest.raises(ValueError, match="no largest of no elements"):
        make_problem(core, "amax", [x], dim=1)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [({"dim": 2}, "dim must be from -2 to 1"), ({"dim": (0, -2)}, "names dimension 0 twice")],
)
def test_what_does_not_fit_is_told(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"mean: .*{message}"):
        _core.problem("mean", [_core.Spec("float32", (2, 3))], None, attributes)
