"""scaled_dot_product_attention: shapes x masks x dtype x instruction set level."""

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import check_algorithms, make_problem

OP = "scaled_dot_product_attention"
DTYPES = [torch.float32, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# The dimensions in front, L, S, E, EV.
SHAPES = {
    "vit": ((1, 3), 197, 197, 64, 64),
    "swin": ((2, 4, 3), 49, 49, 32, 32),
    "one": ((), 1, 1, 1, 1),
    "odd": ((2,), 13, 7, 5, 3),
    "wide_value": ((1,), 5, 9, 8, 70),
    "one_query": ((4,), 1, 300, 16, 16),
    "several_blocks": ((1, 2), 31, 1500, 24, 40),
    "many_queries": ((1,), 1100, 20, 8, 8),
    "no_keys": ((2,), 3, 0, 4, 4),
    "empty": ((0,), 3, 4, 4, 4),
}


def arrays(name: str, dtype: torch.dtype) -> list[torch.Tensor]:
    front, queries, keys, width, value_width = SHAPES[name]
    shapes = ((queries, width), (keys, width), (keys, value_width))
    return [torch.randn(*front, *shape, dtype=dtype) for shape in shapes]


def expected(inputs: list[torch.Tensor], **attributes: Any) -> torch.Tensor:
    query, key, value, *mask = (x.double() for x in inputs)
    scores = (query.shape[-2], key.shape[-2])
    mask = [m if m.dim() >= 2 else m.expand(scores) for m in mask]
    return F.scaled_dot_product_attention(query, key, value, *mask, **attributes)


@dtypes
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("attributes", [{}, {"scale": 0.4}, {"is_causal": True}], ids=str)
def test_equals_torch(
    core: ModuleType, name: str, attributes: dict[str, Any], dtype: torch.dtype
) -> None:
    inputs = arrays(name, dtype)
    wanted = expected(inputs, **attributes)
    check_algorithms(core, OP, inputs, wanted, reduction=16, magnitude=4, **attributes)


@dtypes
@pytest.mark.parametrize("name", ["swin", "odd", "several_blocks"])
@pytest.mark.parametrize("form", ["whole", "heads", "queries", "keys", "number"])
def test_masks(core: ModuleType, name: str, form: str, dtype: torch.dtype) -> None:
    inputs = arrays(name, dtype)
    front, queries, keys, *_ = SHAPES[name]
    shape = {
        "whole": (*front, queries, keys),
        "heads": (*front[-1:], queries, keys),
        "queries": (queries, 1),
        "keys": (keys,),
        "number": (),
    }[form]
    mask = torch.randn(shape, dtype=dtype)
    mask[mask > 1] = -float("inf")
    if form in ("queries", "number"):
        mask = mask.nan_to_num(neginf=-1.0)
    inputs.append(mask)
    wanted = expected(inputs)
    check_algorithms(core, OP, inputs, wanted, reduction=16, magnitude=4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [0.1, 0.95, 1.0, 1.05, 1.2, 3.0])
def test_weights_that_vanish(core: ModuleType, far: float, dtype: torch.dtype) -> None:
    """Around the smallest normal number, below which they are taken for 0."""
    inputs = [torch.randn(3, 21, 40, dtype=dtype) for _ in range(3)]
    mask = torch.zeros(21, 21, dtype=dtype)
    mask[:, 7:] = far * math.log(torch.finfo(dtype).tiny)
    actual = make_problem(core, OP, [*inputs, mask]).run("direct", *inputs, mask).torch()
    torch.testing.assert_close(actual, F.scaled_dot_product_attention(*inputs, mask))


def test_queries_without_keys(core: ModuleType) -> None:
    inputs = arrays("swin", torch.float32)
    mask = torch.zeros(49, 49)
    mask[5] = -float("inf")
    actual = make_problem(core, OP, [*inputs, mask]).run("direct", *inputs, mask).torch()
    assert (actual[..., 5, :] == 0).all()
    torch.testing.assert_close(actual, F.scaled_dot_product_attention(*inputs, mask))


def test_large_scores(core: ModuleType) -> None:
    """Of blocks of keys in any order of size the largest counts."""
    query, key, value = arrays("several_blocks", torch.float32)
    key[:, :, :512] *= 100
    key[:, :, 1024:] *= 1000
    actual = make_problem(core, OP, [query, key, value]).run("direct", query, key, value).torch()
    wanted = expected([query, key, value])
    torch.testing.assert_close(actual.double(), wanted, rtol=1e-3, atol=1e-3)


@given(
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    width=st.integers(1, 40),
    causal=st.booleans(),
)
def test_any_size(queries: int, keys: int, width: int, causal: bool) -> None:
    inputs = [torch.randn(2, n, width, dtype=torch.float64) for n in (queries, keys, keys)]
    problem = make_problem(_core, OP, inputs, is_causal=causal)
    wanted = expected(inputs, is_causal=causal)
    torch.testing.assert_close(problem.run("direct", *inputs).torch(), wanted)
    torch.testing.assert_close(problem.reference(*inputs).torch(), wanted)


def test_nan_stays_with_its_query(core: ModuleType) -> None:
    query, key, value = arrays("several_blocks", torch.float32)
    query[0, 1, 3, 4] = float("nan")
    actual = make_problem(core, OP, [query, key, value]).run("direct", query, key, value).torch()
    assert actual[0, 1, 3].isnan().all()
    actual[0, 1, 3] = 0
    assert actual.isfinite().all()


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        (((2, 3, 4), (2, 5, 4)), {}, "takes query, key, value"),
        (((2, 3, 4), (2, 5, 6), (2, 5, 4)), {}, "do not go together"),
        (((2, 3, 4), (2, 5, 4), (2, 6, 4)), {}, "do not go together"),
        (((2, 3, 4), (1, 5, 4), (2, 5, 4)), {}, "do not go together"),
        (((4,), (4,), (4,)), {}, "do not go together"),
        (((3, 4), (5, 4), (5, 4), (3, 4)), {}, "cannot be broadcast"),
        (((3, 4), (5, 4), (5, 4), (2, 3, 5)), {}, r"mask float32\(2, 3, 5\) cannot be broadcast"),
        (((3, 4), (5, 4), (5, 4), (3, 5)), {"is_causal": True}, "a mask or is_causal, not both"),
    ],
)
def test_what_does_not_fit_is_told(
    shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{OP}: .*{message}"):
        _core.problem(OP, [_core.Spec("float32", s) for s in shapes], None, attributes)
