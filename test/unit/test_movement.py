"""Operations that move elements: permute, reorder, slice, roll, pad, expand, reshape, stack."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import LAYOUTS, assert_same_bits, make_problem, run_in_layout, to_layout

DTYPES = [torch.float32, torch.float64]


def check(
    core: ModuleType, op: str, x: torch.Tensor, expected: torch.Tensor, **attributes: Any
) -> None:
    """Elements are moved, not changed: by the reference, one thread and two."""
    one, two = (make_problem(core, op, [x], None, n, **attributes) for n in (1, 2))
    assert one.output.shape == tuple(expected.shape)
    expected = expected.contiguous()
    assert_same_bits(one.reference(x).torch(), expected)
    assert_same_bits(one.run("direct", x).torch(), expected)
    assert_same_bits(two.run("direct", x).torch(), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((), ()),
        ((5,), (0,)),
        ((33, 65), (1, 0)),
        ((2, 96, 14, 14), (0, 2, 3, 1)),
        ((2, 14, 14, 96), (0, 3, 1, 2)),
        ((1, 3, 50, 40), (0, 2, 3, 1)),
        ((2, 2, 58, 9, 9), (0, 2, 1, 3, 4)),
        ((1, 4, 7, 4, 7, 24), (0, 1, 3, 2, 4, 5)),
        ((3, 49, 3, 4, 32), (2, 0, 3, 1, 4)),
        ((1, 5, 1, 7), (3, 2, 1, -4)),
        ((7, 300, 129), (2, 0, 1)),
        ((2, 0, 3), (2, 1, 0)),
        ((130, 257), (1, 0)),
    ],
)
def test_permute(
    core: ModuleType, shape: tuple[int, ...], dims: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    check(core, "permute", x, x.permute(dims), dims=dims)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (1, 37, 1, 1), (70, 6, 31), (0, 3, 2, 2)])
@pytest.mark.parametrize("dims", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (2, 0, 1)])
def test_permute_of_layouts(
    core: ModuleType, shape: tuple[int, ...], dims: tuple[int, ...], dtype: torch.dtype
) -> None:
    if len(shape) != len(dims):
        return
    x = torch.randn(shape, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    for before in ("dense", "channels_last"):
        for after in ("dense", "channels_last"):
            spec = core.Spec(name, shape, before)
            attributes = {"dims": dims, "output_layout": after}
            for threads in (1, 2):
                problem = core.problem("permute", [spec], None, attributes, threads)
                assert problem.output.layout == after
                assert_same_bits(run_in_layout(core, problem, "direct", x), x.permute(dims))
    blocked = core.Spec(name, shape, "blocked")
    with pytest.raises(ValueError, match="must be dense or channels_last"):
        core.problem("permute", [blocked], None, {"dims": dims})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 37, 5, 7),
        (1, 64, 56, 56),
        (3, 16, 1, 1),
        (5, 9, 9),
        (1, 1, 1, 1),
        (2, 3, 40, 33),
        (0, 4, 2, 2),
    ],
    ids=str,
)
def test_reorder(core: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    for before in LAYOUTS:
        for after in LAYOUTS:
            for threads in (1, 2):
                spec = core.Spec(name, shape, before)
                problem = core.problem("reorder", [spec], None, {"layout": after}, threads)
                assert problem.output == core.Spec(name, shape, after)
                assert_same_bits(run_in_layout(core, problem, "direct", x), x)


def test_reorder_fills_a_block_with_zeros(core: ModuleType) -> None:
    x = torch.ones(1, 3, 2, 5)
    problem = core.problem(
        "reorder", [core.Spec("float32", x.shape)], None, {"layout": "blocked"}, 1
    )
    memory = torch.full_like(to_layout(core, x, "blocked"), float("nan"))
    like = core.Spec("float32", tuple(memory.shape))
    step = (problem, "direct", [("input", 0, 0)], ("output", 0, 0))
    (memory,) = core.Executor([problem.inputs[0]], [like], [], [step], 0)([x])
    assert float(memory.sum()) == x.numel()


@given(shape=st.lists(st.integers(1, 9), max_size=6), seed=st.integers(0, 2**31))
def test_permute_any(shape: list[int], seed: int) -> None:
    dims = np.random.default_rng(seed).permutation(len(shape)).tolist()
    x = torch.rand(shape, dtype=torch.float64)
    check(_core, "permute", x, x.permute(dims), dims=dims)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "dim", "start", "end", "step"),
    [
        ((7,), 0, 2, 5, 1),
        ((2, 116, 28, 28), 1, 58, None, 1),
        ((2, 116, 5, 5), 1, 0, 58, 1),
        ((1, 56, 56, 24), 1, 1, None, 2),
        ((1, 56, 56, 24), 2, 0, None, 2),
        ((3, 70), -1, -9, -2, 1),
        ((3, 70), -1, 3, 1000, 3),
        ((3, 70), 1, 5, 5, 1),
        ((3, 70), 1, 60, 5, 1),
        ((2, 3000, 61), 1, 1, 2999, 1),
        ((0, 3), 1, 1, None, 1),
    ],
)
def test_slice(
    core: ModuleType,
    shape: tuple[int, ...],
    dim: int,
    start: int,
    end: int | None,
    step: int,
    dtype: torch.dtype,
) -> None:
    x = torch.randn(shape, dtype=dtype)
    index = [slice(None)] * len(shape)
    index[dim] = slice(start, end, step)
    check(core, "slice", x, x[tuple(index)], dim=dim, start=start, end=end, step=step)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "shifts", "dims"),
    [
        ((1, 56, 56, 24), (-3, -3), (1, 2)),
        ((2, 7, 9), (4,), (-1,)),
        ((2, 7, 9), (-100, 8, 1), (0, 1, 2)),
        ((2, 7, 9), 5, None),
        ((2, 7, 9), 3, 1),
        ((0, 7), 3, 1),
        ((300, 301), (1, 299), (0, 1)),
    ],
)
def test_roll(
    core: ModuleType, shape: tuple[int, ...], shifts: Any, dims: Any, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    check(core, "roll", x, torch.roll(x, shifts, dims), shifts=shifts, dims=dims)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "pad"),
    [
        ((2, 3, 5, 7), (1, 2, 3, 4)),
        ((2, 3, 5, 7), (0, 0, 2, 0)),
        ((2, 3, 5, 70), (6, 5, 0, 0)),
        ((3, 5, 7), (2, 1)),
        ((1, 2, 3, 4, 5), (1, 2, 1, 1, 2, 0)),
    ],
)
def test_pad(
    core: ModuleType, shape: tuple[int, ...], pad: tuple[int, ...], mode: str, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    check(core, "pad", x, F.pad(x, pad, mode), pad=pad, mode=mode)


@pytest.mark.parametrize(
    ("shape", "pad", "value"),
    [
        ((2, 3, 5), (-1, 2, 3, -2), 1.5),
        ((2, 3, 5), (0, 0, 0, 0, 1, 1), -float("inf")),
        ((1, 8, 9, 24), (0, 0, 0, 5, 0, 6), None),
        ((4,), (-4, 3), 2.0),
        ((2, 0), (1, 1), 0.5),
        ((), (), 3.0),
    ],
)
def test_pad_with_numbers(
    core: ModuleType, shape: tuple[int, ...], pad: tuple[int, ...], value: float | None
) -> None:
    x = torch.randn(shape)
    check(core, "pad", x, F.pad(x, pad, value=value), pad=pad, value=value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1, 768), (4, -1, -1)),
        ((5, 1), (5, 40)),
        ((5, 1), (3, 5, 2)),
        ((), (2, 3)),
        ((3, 1, 2), (2, 3, 4, 2)),
        ((1,), (0,)),
        ((3,), (3,)),
    ],
)
def test_expand(
    core: ModuleType, shape: tuple[int, ...], size: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, dtype=dtype)
    check(core, "expand", x, x.expand(size), shape=size)


@pytest.mark.parametrize(
    ("shape", "to"),
    [((2, 3, 4), (6, 4)), ((2, 3, 4), (-1,)), ((1,), ()), ((2, 3), (3, -1, 1)), ((0, 3), (3, 0))],
)
def test_reshape(core: ModuleType, shape: tuple[int, ...], to: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    check(core, "reshape", x, x.reshape(to), shape=to)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_stack(core: ModuleType, dim: int, count: int) -> None:
    inputs = [torch.randn(3, 70) for _ in range(count)]
    problem = make_problem(core, "stack", inputs, dim=dim)
    expected = torch.stack(inputs, dim)
    assert problem.output.shape == tuple(expected.shape)
    assert_same_bits(problem.reference(*inputs).torch(), expected)
    assert_same_bits(problem.run("direct", *inputs).torch(), expected)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "message"),
    [
        ("reorder", (1, 2, 3, 4), {}, "needs a layout"),
        ("reorder", (3, 4), {"layout": "blocked"}, "must be \\(N, C, H, W\\)"),
        ("permute", (2, 3), {"dims": (0,)}, "dims must name each of the 2 dimensions"),
        ("permute", (2, 3), {"dims": (0, 0)}, "dims names dimension 0 twice"),
        ("permute", (2, 3), {"dims": (0, 2)}, "dims must be from -2 to 1, not 2"),
        ("slice", (2, 3), {"dim": 5}, "dim must be from -2 to 1, not 5"),
        ("slice", (2, 3), {"step": 0}, "step must be at least 1, not 0"),
        ("slice", (), {}, "an input must have a dimension"),
        ("roll", (2, 3), {"shifts": (1, 2), "dims": (1,)}, "as many shifts as dims, not 2 for 1"),
        ("pad", (2, 3), {"pad": (1,)}, "pad must be pairs for at most 2 dimensions"),
        ("pad", (2, 3), {"pad": (3, 0), "mode": "reflect"}, "padding of 3 is more than the extent"),
        ("pad", (2, 3), {"pad": (-4, 0)}, "removes more than the extent 3 of dimension 1"),
        ("pad", (2, 3), {"pad": (1, 1), "mode": "mirror"}, "mode must be 'constant', 'reflect'"),
        ("expand", (2, 3), {"shape": (3,)}, "has fewer dimensions than the input"),
        ("expand", (2, 3), {"shape": (2, 4)}, "only extents of 1 can"),
        ("expand", (2, 3), {"shape": (-1, 2, 3)}, "cannot be expanded"),
        ("reshape", (2, 3), {"shape": (4,)}, "has not the elements of shape"),
        ("reshape", (2, 3), {"shape": (-1, 4)}, "has not the elements of shape"),
        ("reshape", (2, 3), {"shape": (-1, -1)}, "one extent of -1"),
        ("reshape", (0, 3), {"shape": (-1, 0)}, "does not tell the extent of -1"),
        ("reshape", (2, 3), {}, "needs a shape"),
        ("stack", (2, 3), {"dim": 3}, "dim must be from -3 to 2, not 3"),
    ],
)
def test_what_does_not_fit_is_told(
    op: str, shape: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{op}: .*{message}"):
        _core.problem(op, [_core.Spec("float32", shape)], None, attributes)


def test_stacked_shapes_are_equal() -> None:
    with pytest.raises(ValueError, match=r"unlike float32\(2,\) and float32\(3,\)"):
        _core.problem("stack", [_core.Spec("float32", (2,)), _core.Spec("float32", (3,))])
