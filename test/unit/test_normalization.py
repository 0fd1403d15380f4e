"""layer_norm, group_norm, local_response_norm, softmax, normalize: shapes x dtype x instruction set
level."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import check_algorithms, make_problem, run_in_place

DTYPES = [torch.float32, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def doubled(weights: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    return [None if w is None else w.double() for w in weights]


@dtypes
@pytest.mark.parametrize(
    ("shape", "normalized"),
    [
        ((4, 49, 96), (96,)),
        ((3, 7), (7,)),
        ((2, 5, 33), (5, 33)),
        ((100,), (100,)),
        ((3, 1), (1,)),
        ((2, 70001), (70001,)),
        ((0, 8), (8,)),
    ],
)
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
def test_layer_norm(
    core: ModuleType,
    shape: tuple[int, ...],
    normalized: tuple[int, ...],
    affine: str,
    dtype: torch.dtype,
) -> None:
    x = torch.randn(shape, dtype=dtype) * 3 + 5
    weight = torch.rand(normalized, dtype=dtype) if affine in ("both", "weight") else None
    bias = torch.randn(normalized, dtype=dtype) if affine in ("both", "bias") else None
    expected = F.layer_norm(x.double(), normalized, *doubled([weight, bias]), eps=1e-6)
    check_algorithms(
        core,
        "layer_norm",
        [x],
        expected,
        [weight, bias],
        reduction=4,
        magnitude=16,
        normalized_shape=normalized,
        eps=1e-6,
    )


@dtypes
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 6, 5, 7), 3), ((2, 6, 5, 7), 6), ((1, 32, 14, 14), 32), ((3, 8), 2), ((2, 4, 9001), 1)],
)
@pytest.mark.parametrize("affine", [False, True])
def test_group_norm(
    core: ModuleType, shape: tuple[int, ...], groups: int, affine: bool, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype) * 2 - 3
    weights = [torch.randn(shape[1], dtype=dtype), torch.randn(shape[1], dtype=dtype)]
    given: list[torch.Tensor | None] = [*weights] if affine else [None, None]
    expected = F.group_norm(x.double(), groups, *doubled(given), eps=1e-3)
    check_algorithms(
        core,
        "group_norm",
        [x],
        expected,
        given,
        reduction=64,
        magnitude=16,
        num_groups=groups,
        eps=1e-3,
    )


@dtypes
@pytest.mark.parametrize("shape", [(2, 7, 5, 9), (1, 3, 40), (2, 1, 3, 3)])
@pytest.mark.parametrize(
    "attributes",
    [
        {"size": 5},
        {"size": 2, "alpha": 0.5, "beta": 0.75, "k": 2.0},
        {"size": 3, "alpha": 2.0, "beta": 1.3, "k": 0.5},
        {"size": 20, "alpha": 1.0},
    ],
)
def test_local_response_norm(
    core: ModuleType, shape: tuple[int, ...], attributes: dict[str, Any], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    expected = F.local_response_norm(x.double(), **attributes)
    check_algorithms(
        core, "local_response_norm", [x], expected, reduction=8, magnitude=4, **attributes
    )


@dtypes
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((4, 3, 49, 49), -1),
        ((3, 197), 1),
        ((5, 1), -1),
        ((2, 21, 9, 11), 1),
        ((40, 3), 0),
        ((1,), 0),
        ((), -1),
        ((2, 0), 0),
        ((3, 20011), 1),
    ],
)
def test_softmax(core: ModuleType, shape: tuple[int, ...], dim: int, dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype) * 5
    expected = x.double().softmax(dim)
    check_algorithms(core, "softmax", [x], expected, reduction=4, magnitude=1, dim=dim)


@dtypes
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((4, 3, 49, 32), -1), ((2, 21, 9, 11), 1), ((40, 3), 0), ((5, 1), 1), ((3, 20011), 1)],
)
@pytest.mark.parametrize("eps", [1e-12, 3.0])
def test_normalize(
    core: ModuleType, shape: tuple[int, ...], dim: int, eps: float, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    x.select(dim, 0).zero_()
    expected = F.normalize(x.double(), dim=dim, eps=eps)
    check_algorithms(core, "normalize", [x], expected, reduction=4, magnitude=1, dim=dim, eps=eps)


@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_of_large_and_special_numbers(core: ModuleType, dim: int) -> None:
    inf, nan = float("inf"), float("nan")
    rows = torch.randn(6, 40)
    rows[0] *= 1000
    rows[1, 3] = -inf
    rows[2] = -inf
    rows[3, 39] = nan
    rows[4, 0] = nan
    rows[5, 17] = inf
    x = rows if dim == 1 else rows.T.contiguous()
    actual = make_problem(core, "softmax", [x], dim=dim).run("direct", x).torch()
    torch.testing.assert_close(actual, x.softmax(dim), equal_nan=True)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("layer_norm", {"normalized_shape": (300,)}),
        ("group_norm", {"num_groups": 10}),
        ("softmax", {"dim": 1}),
        ("softmax", {"dim": 0}),
        ("normalize", {"dim": 1}),
        ("normalize", {"dim": 0}),
    ],
)
def test_in_place(core: ModuleType, op: str, attributes: dict[str, Any]) -> None:
    x = torch.randn(200, 300)
    problem = make_problem(core, op, [x], **attributes)
    assert torch.equal(run_in_place(core, problem, "direct", x), problem.run("direct", x).torch())


def test_nan_and_infinity_stay_in_their_slice(core: ModuleType) -> None:
    x = torch.randn(4, 100)
    x[1, 7], x[2, 9] = float("nan"), float("inf")
    actual = make_problem(core, "layer_norm", [x], normalized_shape=(100,)).run("direct", x).torch()
    expected = F.layer_norm(x, (100,))
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "message"),
    [
        ("layer_norm", (2, 3), {"normalized_shape": (2,)}, "must end in normalized_shape"),
        ("layer_norm", (2, 3), {}, "must end in normalized_shape"),
        ("group_norm", (2, 3), {"num_groups": 2}, "num_groups 2 must divide the 3 channels"),
        ("group_norm", (2,), {}, r"input must be \(N, C, \*\)"),
        ("local_response_norm", (2, 3), {"size": 1}, r"input must be \(N, C, \*\)"),
        ("local_response_norm", (2, 3, 4), {"size": 0}, "size must be at least 1"),
        ("softmax", (2, 3), {"dim": 2}, "dim must be from -2 to 1, not 2"),
    ],
)
def test_what_does_not_fit_is_told(
    op: str, shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{op}: .*{message}"):
        _core.problem(op, [_core.Spec("float32", shape)], None, attributes)


def test_weights_fit() -> None:
    spec, weights = _core.Spec("float32", (2, 3)), _core.Weights.of([torch.ones(4)])
    for op, attributes in (("layer_norm", {"normalized_shape": (3,)}), ("group_norm", {})):
        with pytest.raises(ValueError, match=r"weight must be float32\(3,\), not float32\(4,\)"):
            _core.problem(op, [spec], weights, attributes)
