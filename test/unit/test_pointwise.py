"""pointwise: every function of the core against torch's, programs, types, shapes and layouts."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ai3 import _core
from test.unit.checks import (
    LAYOUTS,
    assert_same_bits,
    make_problem,
    run_in_layout,
    run_in_place,
)

TORCH: dict[str, Any] = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "elu": lambda x, alpha: torch.where(x < 0, alpha * torch.expm1(x), x),
    "leaky_relu": lambda x, slope: torch.where(x < 0, x * slope, x),
}
"""Torch's functions that are not called as the core's."""

INTEGERS = {
    *("abs", "neg", "sign", "square", "add", "sub", "mul", "maximum", "minimum", "floor"),
    *("floor_divide", "remainder", "fmod", "pow", "ceil", "round", "trunc", "relu", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"),
    *("bitwise_left_shift", "bitwise_right_shift"),
}
BITS = {name for name in INTEGERS if name.startswith("bitwise")}
ALL = sorted(_core.pointwise_functions())


def torch_function(name: str) -> Any:
    if name in TORCH:
        return TORCH[name]
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


def run(
    core: ModuleType, program: str, *inputs: torch.Tensor, threads: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the algorithm and the reference give."""
    problem = make_problem(core, "pointwise", list(inputs), threads=threads, program=program)
    direct, reference = problem.run("direct", *inputs).torch(), problem.reference(*inputs).torch()
    assert direct.dtype == reference.dtype
    assert direct.shape == reference.shape == problem.output.shape
    return direct, reference


def reals(dtype: torch.dtype, count: int = 700) -> torch.Tensor:
    """Of all magnitudes, NaN, the infinities and both zeros among them."""
    usual = torch.randn(count, dtype=dtype) * torch.logspace(-6, 1.3, count, dtype=dtype)
    inf = float("inf")
    special = torch.tensor([inf, -inf, float("nan"), 0.0, -0.0, 1.0, -1.0, 2.0, 0.5], dtype=dtype)
    return torch.cat([usual, special])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [name for name in ALL if name not in BITS])
def test_equals_torch(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    x = reals(dtype)
    others = [x[torch.randperm(len(x))] for _ in range(_core.pointwise_functions()[name] - 1)]
    operands = [x, *others]
    if name == "where":
        operands[0] = x > 0
    expected = torch_function(name)(*(o.double() if o.is_floating_point() else o for o in operands))
    letters = ", ".join(f"x{i}" for i in range(len(operands)))
    for actual in run(core, f"{name}({letters})", *operands):
        assert actual.dtype == (torch.bool if expected.dtype == torch.bool else dtype)
        if actual.dtype == torch.bool:
            assert torch.equal(actual, expected)
            continue
        rounded = expected.to(dtype).double()
        finite = rounded.isfinite() & actual.isfinite()
        epsilon = torch.finfo(dtype).eps
        # Where the function is steep, its argument's last bit tells; near an overflow too.
        difference = (actual.double() - expected).abs()[finite]
        tolerance = 16 * epsilon * (expected.abs()[finite] + tiny(name))
        assert (difference <= tolerance).all(), (x[finite][difference > tolerance][:3],)
        rest = ~finite & (rounded.abs() < torch.finfo(dtype).max / 2)
        assert_same_bits(actual[rest].double(), rounded[rest])


def tiny(name: str) -> float:
    """What smaller results are compared with, where the core's functions are of absolute error."""
    return 1.0 if name in ("gelu", "gelu_tanh", "erf", "erfc", "hardswish", "remainder") else 1e-6


ULPS = {"log": 1.0, "log1p": 1.6, "sin": 1.0, "cos": 1.0, "pow": 1.3}
"""The largest errors of functions of vectors, in units of the last place."""


def arguments(dtype: torch.dtype) -> torch.Tensor:
    """Bits of any kind, subnormal numbers, what is near 1 and multiples of pi / 2, and usual."""
    bits = {torch.float32: torch.int32, torch.float64: torch.int64}[dtype]
    limits, ints = torch.finfo(dtype), torch.iinfo(bits)
    near = torch.arange(-3000, 3000, 7, dtype=torch.float64) * (torch.pi / 2)
    values = torch.tensor([0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 1e5, 1e5 + 1, 1e30, float("inf")])
    edges = torch.tensor([limits.tiny, limits.smallest_normal * limits.eps, limits.max])
    whole = torch.tensor([2.0**23 + 1, 2.0**24, 2.0**52 + 1, 2.0**53 - 1, 2.0**53])
    exact = torch.cat([values.double(), edges.double(), whole.double()]).to(dtype)
    steps = [exact, exact.nextafter(exact * 0), exact.nextafter(exact * 2)]
    special = torch.cat([*steps, torch.tensor([float("nan")], dtype=dtype)])
    any_bits = torch.randint(ints.min, ints.max, (5000,), dtype=bits).view(dtype)
    return torch.cat(
        [
            special,
            -special,
            any_bits[~any_bits.isnan()],
            (torch.rand(500, dtype=dtype) * 2 - 1) * limits.tiny * 2,
            1 + torch.randn(2000, dtype=dtype) * torch.logspace(-8, -1, 2000, dtype=dtype),
            near.to(dtype),
            torch.rand(5000, dtype=dtype) * 20 - 10,
            torch.randn(2000, dtype=dtype) * 3e4,
        ]
    )


def assert_ulps(actual: torch.Tensor, exact: np.ndarray, most: float) -> None:
    """Within `most` units in the last place of what is given to more; the same infinities, NaN and
    signs of zero."""
    given = actual.numpy()
    with np.errstate(over="ignore"):
        rounded = exact.astype(given.dtype)
        most_finite = np.nextafter(np.finfo(given.dtype).max, 0)
        unit = np.spacing(np.minimum(np.abs(rounded), most_finite))
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(given[~finite], rounded[~finite])
    zero = rounded == 0
    np.testing.assert_array_equal(np.signbit(given[zero]), np.signbit(rounded[zero]))
    error = np.abs(given[finite].astype(exact.dtype) - exact[finite])
    ulps = error / unit[finite]
    assert ulps.max() <= most, (ulps.max(), exact[finite][ulps.argmax()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ULPS)
def test_accuracy(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    wider = np.float64 if dtype == torch.float32 else np.longdouble
    if np.finfo(wider).eps * 1000 > torch.finfo(dtype).eps:
        pytest.skip("no wider type to compare with")
    x = arguments(dtype)
    operands = [x]
    if name == "pow":
        special = x[:100]
        left, right = torch.meshgrid(special, special, indexing="ij")
        positive = x.abs()[torch.randperm(len(x))]
        # Powers of all magnitudes.
        spread = (torch.rand(len(x)) * 1.1).to(dtype) * torch.finfo(dtype).max ** 0.5
        reach = spread.log() * torch.where(torch.rand(len(x)) < 0.5, -2, 2) / positive.log()
        whole = (x * 2).round().clamp(-40, 40)
        operands = [
            torch.cat([left.flatten(), positive, x, x]),
            torch.cat([right.flatten(), reach, whole, x[torch.randperm(len(x))]]),
        ]
    function = getattr(np, {"pow": "power"}.get(name, name))
    with np.errstate(all="ignore"):
        exact = function(*(operand.numpy().astype(wider) for operand in operands))
    letters = ", ".join(f"x{i}" for i in range(len(operands)))
    problem = make_problem(core, "pointwise", operands, program=f"{name}({letters})")
    assert_ulps(problem.run("direct", *operands).torch(), exact, ULPS[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ULPS)
def test_each_element_for_itself(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    """Whatever its neighbours are, in whole vectors and in parts of them."""
    x = arguments(dtype)[-3000:]
    program = f"{name}(x0, 1.7)" if name == "pow" else f"{name}(x0)"

    def compute(given: torch.Tensor) -> torch.Tensor:
        problem = make_problem(core, "pointwise", [given], program=program)
        return problem.run("direct", given).torch()

    expected = compute(x)
    for size in range(1, 40):
        assert_same_bits(compute(x[7 : 7 + size]), expected[7 : 7 + size])
    assert_same_bits(compute(x.flip(0)).flip(0), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_integers(core: ModuleType, name: str, dtype: torch.dtype) -> None:
    x = torch.randint(0 if dtype == torch.uint8 else -9, 10, (600,)).to(dtype)
    y = torch.randint(1, 6, (600,)).to(dtype)
    operands = [x, y][: _core.pointwise_functions()[name]]
    if name == "where":
        operands = [x > 3, x, y]
    if name == "neg" and dtype == torch.uint8:
        x[:] = 5
    expected = torch_function(name)(*operands)
    letters = ", ".join(f"x{i}" for i in range(len(operands)))
    for actual in run(core, f"{name}({letters})", *operands):
        assert torch.equal(actual, expected)
        assert actual.dtype == expected.dtype


def test_integer_edges(core: ModuleType) -> None:
    least = torch.tensor([torch.iinfo(torch.int64).min, -1, 0, 5])
    by = torch.tensor([-1, 0, 0, -1])
    for program in ("floor_divide(x0, x1)", "remainder(x0, x1)", "fmod(x0, x1)", "abs(x0)"):
        direct, reference = run(core, program, least, *([by] if "x1" in program else []))
        assert torch.equal(direct, reference)
    large = torch.tensor([2**31 - 1, -(2**31)], dtype=torch.int32)
    for actual in run(core, "add(x0, x0); int64(t0)", large):
        assert torch.equal(actual, (large + large).long())


DTYPES = [
    *(torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool),
]


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("b", DTYPES, ids=str)
def test_types_are_promoted_as_torch_does(core: ModuleType, a: torch.dtype, b: torch.dtype) -> None:
    values = torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0]])
    for x, y in ((values.to(a), values.to(b)), (values.to(a), torch.tensor(1.0).to(b))):
        for program, function in (
            ("add(x0, x1)", torch.add),
            ("mul(x0, x1)", torch.mul),
            ("div(x0, x1)", torch.div),
            ("lt(x0, x1)", torch.lt),
            ("logical_and(x0, x1)", torch.logical_and),
            ("maximum(x0, x1)", torch.maximum),
        ):
            expected = function(x, y)
            for actual in run(core, program, x, y):
                assert actual.dtype == expected.dtype
                assert torch.equal(actual, expected) or expected.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("number", [2, 2.5, True])
def test_numbers_are_weak(core: ModuleType, dtype: torch.dtype, number: Any) -> None:
    x = torch.tensor([0.0, 1.0, 3.0]).to(dtype)
    for actual in run(core, f"mul(x0, {number!r})", x):
        assert torch.equal(actual, x * number)
        assert actual.dtype == (x * number).dtype


NUMBERS = ["0", "2", "-1", "256", "0.0", "-0.0", "0.5", "1e-300", "inf", "nan", "True", "False"]
TRUTHS = [name for name in ALL if name.startswith("logical")]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_zero_is_true(core: ModuleType, dtype: torch.dtype, number: str) -> None:
    """Elements of every dtype, and numbers beside them, in each function of bool."""
    x = torch.tensor([0, 1, 2, 254]).to(dtype)
    if dtype.is_floating_point:
        x = torch.cat([x, torch.tensor([-0.0, 0.25, float("nan"), -float("inf")], dtype=dtype)])
    other = torch.tensor(bool(eval(number, {"inf": float("inf"), "nan": float("nan")})))
    for name in TRUTHS:
        function = torch_function(name)
        programs = {f"{name}(x0, {number})": (x, other), f"{name}({number}, x0)": (other, x)}
        if _core.pointwise_functions()[name] == 1:
            programs = {f"{name}(x0)": (x,)}
        for program, operands in programs.items():
            for actual in run(core, program, x):
                assert actual.dtype == torch.bool
                assert torch.equal(actual, function(*operands)), program
    for actual in run(core, f"where({number}, x0, x1)", x, x + x):
        assert torch.equal(actual.nan_to_num(), (x if other else x + x).nan_to_num())


@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_conversions(core: ModuleType, dtype: torch.dtype, to: torch.dtype) -> None:
    x = torch.tensor([0.0, 0.4, 1.0, 3.9, 200.2]).to(dtype)
    for actual in run(core, f"{str(to).removeprefix('torch.')}(x0)", x):
        assert torch.equal(actual, x.to(to))
        assert actual.dtype == to


SHAPES = [
    [(2, 3, 4, 5), (3, 1, 1), (5,)],
    [(3, 70001), (70001,), ()],
    [(4, 1), (1, 33)],
    [(2, 1, 7, 1, 2), (1, 3, 1, 5, 1)],
    [(), ()],
    [(0, 3), (1, 3)],
    [(1,), (513,)],
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_broadcasting_and_reuse(core: ModuleType, shapes: list[Any], threads: int) -> None:
    """t0 is read twice, t2 early and late, so that registers are written again in between."""
    inputs = [torch.randn(shape) for shape in shapes]
    x, y, z = inputs[0], inputs[1], inputs[-1]
    program = (
        f"mul(x0, 0.5); add(t0, x1); sub(t1, t0); gt(t2, 0); where(t3, t2, x{len(inputs) - 1}); "
        "maximum(t4, t0); int64(t5); float32(t6); add(t7, t2)"
    )
    t0 = x * 0.5
    t2 = (t0 + y) - t0
    t5 = torch.maximum(torch.where(t2 > 0, t2, z), t0)
    expected = t5.long().float() + t2
    for actual in run(core, program, *inputs, threads=threads):
        torch.testing.assert_close(actual, expected)


CHEAP = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "leaky_relu": TORCH["leaky_relu"],
}
CHEAP_OF_ONE = ("abs", "neg", "sign", "square", "reciprocal", "relu")
"""What is computed in chains that stay in registers."""
SIZES = [1, 3, 16, 17, 255, 256, 257, 1023, 1024, 1025, 3001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_chains(core: ModuleType, dtype: torch.dtype, size: int) -> None:
    """Each function beside a number, an element, an array and a row, in both orders."""
    x, y = torch.randn(2, size, dtype=dtype), torch.randn(2, size, dtype=dtype)
    row, one = torch.randn(size, dtype=dtype), torch.randn((), dtype=dtype)
    program, expected = ["mul(x0, 1)"], x
    number = torch.tensor(0.75, dtype=dtype)
    for name, function in CHEAP.items():
        for word, other in (("0.75", number), ("x1", y), ("x2", row), ("x3", one)):
            for first in (True, False):
                last = f"t{len(program) - 1}"
                program.append(f"{name}({last}, {word})" if first else f"{name}({word}, {last})")
                expected = function(expected, other) if first else function(other, expected)
    for name in CHEAP_OF_ONE:
        before = len(program) - 1
        program += [f"{name}(t{before})", f"sub(x1, t{before + 1})"]
        expected = y - torch_function(name)(expected)
    assert expected.isfinite().all() and len(expected.unique()) > size / 2
    for threads in (1, 2):
        problem = make_problem(
            core, "pointwise", [x, y, row, one], threads=threads, program="; ".join(program)
        )
        assert_same_bits(problem.run("direct", x, y, row, one).torch(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_chains_give_each_value_that_is_read(core: ModuleType, dtype: torch.dtype) -> None:
    """By their own later functions, by other steps, twice by one, and as the result."""
    x, y = torch.randn(700, dtype=dtype), torch.randn(700, dtype=dtype)
    a = x + 1
    b = a * y
    c = (b - a).abs()
    for program, expected in (
        ("add(x0, 1); mul(t0, x1); sub(t1, t0); abs(t2)", c),
        ("add(x0, 1); mul(t0, x1); sub(t1, t0); abs(t2); maximum(t3, t1); mul(t4, t0)",
         torch.maximum(c, b) * a),
        ("add(x0, 1); mul(t0, t0); sub(t1, t0)", a * a - a),
        ("add(x0, 1); mul(t0, x1); gt(t0, t1); where(t2, t0, t1)", torch.where(a > b, a, b)),
        ("add(x0, 1); mul(x1, 2); sub(t0, t1); sub(t1, t2)", y * 2 - (a - y * 2)),
        ("add(x0, 1); mul(t0, x1); mul(t0, 1)", a),
    ):  # fmt: skip
        problem = make_problem(core, "pointwise", [x, y], program=program)
        assert_same_bits(problem.run("direct", x, y).torch(), expected)
        assert_same_bits(run_in_place(core, problem, "direct", x, y), expected)


def test_long_chains(core: ModuleType) -> None:
    inputs = [torch.randn(300) for _ in range(40)]
    program = "; ".join(
        ["add(x0, x1)", *(f"sub(t{i}, x{i + 2})" for i in range(38))]
        + [f"add(t{38 + i}, t{i})" for i in range(38)]
    )
    values = [inputs[0] + inputs[1]]
    for x in inputs[2:]:
        values.append(values[-1] - x)
    expected = values[-1]
    for value in values[:38]:
        expected = expected + value
    problem = make_problem(core, "pointwise", inputs, program=program)
    assert_same_bits(problem.run("direct", *inputs).torch(), expected)


def test_chains_keep_nan_and_signs_of_zero(core: ModuleType) -> None:
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 1e-45])
    x, y = (v.reshape(-1).repeat(5) for v in torch.meshgrid(values, values, indexing="ij"))
    for program, expected in (
        ("maximum(x0, x1)", torch.where((x > y) | x.isnan(), x, y)),
        ("minimum(x0, x1)", torch.where((x < y) | x.isnan(), x, y)),
        ("sub(x0, x1); neg(t0)", -(x - y)),
        ("abs(x0); neg(t0)", -x.abs()),
        ("relu(x0)", torch.where(x < 0, torch.zeros(()), x)),
        ("reciprocal(x0)", 1 / x),
    ):
        problem = make_problem(core, "pointwise", [x, y], program=program)
        actual = problem.run("direct", x, y).torch()
        assert_same_bits(actual, expected)
        assert torch.equal(actual.signbit()[~x.isnan()], expected.signbit()[~x.isnan()])


def test_the_result_may_be_computed_early(core: ModuleType) -> None:
    x = torch.randn(1000)
    for actual in run(core, "mul(x0, 2); float32(t0)", x):
        assert torch.equal(actual, x * 2)
    for actual in run(core, "float32(x0)", x):
        assert torch.equal(actual, x)


def test_large_results_are_written_past_the_caches(core: ModuleType) -> None:
    x = torch.randn((25 << 18) + 3)
    for threads in (1, 2):
        problem = make_problem(core, "pointwise", [x], threads=threads, program="mul(x0, 3)")
        assert torch.equal(problem.run("direct", x).torch(), x * 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(core: ModuleType, layout: str) -> None:
    x, y = torch.randn(2, 16, 5, 3), torch.randn(2, 16, 5, 3)
    specs = [core.Spec("float32", x.shape, layout)] * 2
    program = {"program": "div(x0, x1); exp(t0)"}
    problem = core.problem("pointwise", specs, None, program)
    assert problem.output.layout == layout
    actual = run_in_layout(core, problem, "direct", x, y)
    torch.testing.assert_close(actual, (x / y).exp())


def test_blocks_that_are_not_whole_are_refused(core: ModuleType) -> None:
    spec = core.Spec("float32", (1, 3, 4, 4), "blocked")
    with pytest.raises(ValueError, match="must be dense"):
        core.problem("pointwise", [spec], None, {"program": "log(x0)"})
    spec = core.Spec("float32", (1, 16, 4, 4), "blocked")
    with pytest.raises(ValueError, match="must be dense"):
        core.problem("pointwise", [spec], None, {"program": "isnan(x0)"})


def test_in_place(core: ModuleType) -> None:
    x, y = torch.randn(40, 33), torch.randn(33)
    problem = make_problem(core, "pointwise", [x, y], program="mul(x0, x1); add(t0, x0)")
    assert torch.equal(run_in_place(core, problem, "direct", x, y), x * y + x)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "lacks a name"),
        ("exp", "lacks a '\\('"),
        ("exp(x0", "lacks a '\\)'"),
        ("exp(x1)", "has 1 inputs"),
        ("exp(t0)", "has 0 results by then"),
        ("exp(x0, x0)", "2 operands, not 1"),
        ("evil(x0)", "no function"),
        ("add(x0, 1e)", "no number"),
        ("exp(x0) exp(x0)", "more after"),
        ("exp(x99999999999999999999)", "has 1 inputs"),
        ("bitwise_and(x0, 1)", "not integers"),
        ("; ".join(["exp(x0)"] * 1025), "more than 1024 instructions"),
    ],
)
def test_bad_programs(core: ModuleType, program: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_problem(core, "pointwise", [torch.zeros(3)], program=program)


def test_other_operations_refuse_integers(core: ModuleType) -> None:
    x = torch.zeros(1, 3, 4, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"softmax: the input int64.* must be float32, "):
        make_problem(core, "softmax", [x], dim=1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
def test_movement_takes_every_dtype(core: ModuleType, dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (3, 5, 7)).to(dtype)

    def moved(op: str, *inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
        problem = make_problem(core, op, list(inputs), **attributes)
        reference = problem.reference(*inputs).torch()
        assert torch.equal(problem.run("direct", *inputs).torch(), reference)
        return reference

    assert torch.equal(moved("permute", x, dims=(2, 0, 1)), x.permute(2, 0, 1))
    assert torch.equal(moved("permute", x, dims=(1, 0, 2)), x.permute(1, 0, 2))
    assert torch.equal(moved("concat", x, x, dim=1), torch.cat([x, x], 1))
    assert torch.equal(moved("stack", x, x, dim=1), torch.stack([x, x], 1))
    assert torch.equal(moved("reshape", x, shape=(15, 7)), x.reshape(15, 7))
    assert torch.equal(moved("slice", x, dim=2, start=1, step=2), x[:, :, 1::2])
    assert torch.equal(moved("roll", x, shifts=2, dims=1), x.roll(2, 1))
    padded = torch.nn.functional.pad(x, (1, 2), value=1)
    assert torch.equal(moved("pad", x, pad=(1, 2), value=1), padded)
    assert torch.equal(moved("expand", x[:1], shape=(4, 5, 7)), x[:1].expand(4, 5, 7))
