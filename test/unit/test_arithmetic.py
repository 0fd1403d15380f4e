"""add, sub, mul, div: shapes x dtype x instruction set level."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ai3 import _core
from test.unit.checks import LAYOUTS, check_algorithms, make_problem, run_in_layout, run_in_place

DTYPES = [torch.float32, torch.float64]
Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SHAPES = {
    "equal": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "equal_large": ((3, 70001), (3, 70001)),
    "numbers": ((), ()),
    "number": ((4, 5), ()),
    "to_number": ((), (4, 5)),
    "row": ((4, 33), (33,)),
    "to_row": ((33,), (4, 33)),
    "column": ((4, 33), (4, 1)),
    "outer": ((4, 1), (1, 33)),
    "to_outer": ((1, 33), (4, 1)),
    "channels": ((2, 3, 4, 5), (3, 1, 1)),
    "inner": ((2, 3, 4, 5), (2, 1, 4, 1)),
    "both": ((2, 1, 4, 1), (1, 3, 1, 5)),
    "ones": ((1, 1, 1), (1,)),
    "empty": ((0, 3), (1, 3)),
    "empty_by_broadcasting": ((2, 0, 3), (2, 1, 1)),
}


FUNCTIONS: dict[str, tuple[dict[str, float], Function]] = {
    "add": ({}, torch.add),
    "sub": ({}, torch.sub),
    "mul": ({}, torch.mul),
    "div": ({}, torch.div),
    "add alpha": ({"alpha": -2.5}, lambda a, b: torch.add(a, b, alpha=-2.5)),
    "sub alpha": ({"alpha": 0.5}, lambda a, b: torch.sub(a, b, alpha=0.5)),
}
operations = pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_torch(core: ModuleType, name: str, function: str, dtype: torch.dtype) -> None:
    a, b = (torch.randn(shape, dtype=dtype) for shape in SHAPES[name])
    b = b.sign() * (b.abs() + 0.5)
    attributes, torch_function = FUNCTIONS[function]
    expected = torch_function(a.double(), b.double())
    op = function.partition(" ")[0]
    check_algorithms(core, op, [a, b], expected, reduction=1, magnitude=9, **attributes)


@given(
    shape=st.lists(st.integers(1, 7), max_size=5),
    seed=st.integers(0, 2**31),
    op=st.sampled_from(["add", "sub", "mul", "div"]),
)
def test_any_shapes(shape: list[int], seed: int, op: str) -> None:
    """Extents become 1, and leading ones vanish, in one or the other."""
    random = np.random.default_rng(seed)

    def some() -> torch.Tensor:
        extents = [1 if random.random() < 0.4 else n for n in shape]
        first = random.integers(0, len(shape) + 1) if random.random() < 0.3 else 0
        return torch.from_numpy(random.uniform(0.5, 2, extents[first:]))

    a, b = some(), some()
    problem = make_problem(_core, op, [a, b])
    expected = getattr(torch, op)(a, b)
    assert problem.output.shape == tuple(expected.shape)
    torch.testing.assert_close(problem.run("direct", a, b).torch(), expected)
    torch.testing.assert_close(problem.reference(a, b).torch(), expected)


@operations
@pytest.mark.parametrize(
    ("a", "b", "same_layout"),
    [
        ((2, 19, 5, 3), (2, 19, 5, 3), True),
        ((2, 19, 5, 3), (2, 19, 1, 1), True),
        ((2, 19, 5, 3), (1, 19, 1, 1), True),
        ((19, 5, 3), (19, 1, 1), True),
        ((2, 32, 5, 3), (2, 32, 1, 1), False),
        ((2, 32, 5, 3), (32, 1, 1), False),
        ((2, 19, 5, 3), (), False),
        ((2, 19, 5, 3), (1,), False),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_any_layout(
    core: ModuleType,
    op: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    same_layout: bool,
    layout: str,
    swapped: bool,
) -> None:
    x, y = torch.randn(a), torch.rand(b) + 0.5
    other = layout if same_layout else "dense"
    arrays = [(x, core.Spec("float32", a, layout)), (y, core.Spec("float32", b, other))]
    (first, s), (second, t) = reversed(arrays) if swapped else arrays
    first, second = (x.abs() + 0.5 if op == "div" else x for x in (first, second))
    if op == "div" and layout == "blocked" and a[-3] == 19:
        with pytest.raises(ValueError, match=r"div: .* must be dense"):
            core.problem(op, [s, t])
        return
    problem = core.problem(op, [s, t])
    assert problem.output == core.Spec("float32", a, layout)
    expected = getattr(torch, op)(first, second)
    torch.testing.assert_close(run_in_layout(core, problem, "direct", first, second), expected)


def test_layouts_that_do_not_go_together() -> None:
    blocked = _core.Spec("float32", (2, 19, 5, 3), "blocked")
    for other in ((2, 19, 5, 3), (19, 1, 1), (3,)):
        with pytest.raises(ValueError, match="add: the layouts of"):
            _core.problem("add", [blocked, _core.Spec("float32", other)])


def test_larger_than_the_caches(core: ModuleType) -> None:
    a, b = torch.randn(2, 3500007), torch.randn(2, 1)
    check_algorithms(core, "add", [a, b], a.double() + b.double(), reduction=1, magnitude=4)


@operations
@pytest.mark.parametrize("shape", [(3, 70001), (70001,), (3, 1), ()])
def test_in_place_on_the_first_input(core: ModuleType, op: str, shape: tuple[int, ...]) -> None:
    a, b = torch.randn(3, 70001), torch.rand(shape) + 0.5
    actual = run_in_place(core, make_problem(core, op, [a, b]), "direct", a, b)
    assert torch.equal(actual, getattr(torch, op)(a, b))


@operations
def test_nan_and_infinity(core: ModuleType, op: str) -> None:
    special = torch.tensor([1.0, float("nan"), float("inf"), -float("inf")])
    a, b = special.repeat(16), special.repeat_interleave(16)
    actual = make_problem(core, op, [a, b]).run("direct", a, b).torch()
    torch.testing.assert_close(actual, getattr(torch, op)(a, b), equal_nan=True)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (2, 4), r"shapes \(2, 3\) and \(2, 4\) cannot be broadcast"),
        ((0, 3), (2, 3), "cannot be broadcast"),
        ((1 << 40, 1), (1, 1 << 40), "overflows"),
    ],
)
def test_what_does_not_fit_is_told(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("add", [_core.Spec("float32", a), _core.Spec("float32", b)])


def test_one_dtype() -> None:
    with pytest.raises(ValueError, match="must have one dtype"):
        _core.problem("add", [_core.Spec("float32", (2,)), _core.Spec("float64", (2,))])


def test_inputs_are_not_overwritten(core: ModuleType) -> None:
    a, b = np.ones(100, np.float32), np.ones(100, np.float32)
    core.problem("add", [core.Spec("float32", (100,))] * 2).run("direct", a, b)
    assert (a == 1).all() and (b == 1).all()
