"""linear: every algorithm x shapes x dtype x instruction set level."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.compare import in_own_dtype
from test.unit.checks import check_algorithms, make_problem

ALGORITHMS = in_own_dtype(_core.algorithms()["linear"])
DTYPES = [torch.float32, torch.float64]


def check(
    core: ModuleType, shape: tuple[int, ...], oc: int, bias: bool, dtype: torch.dtype
) -> None:
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(oc, shape[-1], dtype=dtype)
    b = torch.randn(oc, dtype=dtype) if bias else None
    expected = F.linear(x.double(), weight.double(), b if b is None else b.double())
    terms = shape[-1] + 1
    partial_sum = 2 * terms**0.5
    check_algorithms(
        core, "linear", [x], expected, [weight, b], reduction=terms, magnitude=partial_sum
    )


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("shape, oc", [((1, 64), 10), ((9, 1500), 33), ((5, 41, 1100), 70)])
def test_epilogue(
    core: ModuleType,
    shape: tuple[int, ...],
    oc: int,
    residual: bool,
    activation: str,
    dtype: torch.dtype,
) -> None:
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(oc, shape[-1], dtype=dtype)
    bias = torch.randn(oc, dtype=dtype)
    inputs = [x]
    expected = F.linear(x.double(), weight.double(), bias.double())
    if residual:
        inputs.append(torch.randn(*shape[:-1], oc, dtype=dtype))
        expected = expected + inputs[1].double()
    check_algorithms(
        core,
        "linear",
        inputs,
        ACTIVATIONS[activation](expected),
        [weight, bias],
        reduction=shape[-1],
        magnitude=2 * shape[-1] ** 0.5,
        activation=activation,
    )


def test_parameter_of_the_activation(core: ModuleType) -> None:
    x, weight = torch.randn(3, 5), torch.randn(7, 5)
    problem = make_problem(
        core, "linear", [x], [weight], activation="elu", activation_parameter=0.3
    )
    expected = F.elu(F.linear(x, weight), 0.3)
    torch.testing.assert_close(problem.run("direct", x).torch(), expected)


def test_epilogue_that_does_not_fit() -> None:
    x, weights = _core.Spec("float32", (4, 3)), _core.Weights.of([torch.ones(5, 3)])
    residual = _core.Spec("float32", (5,))
    with pytest.raises(ValueError, match=r"linear: the residual must be float32\(4, 5\)"):
        _core.problem("linear", [x, residual], weights)
    with pytest.raises(ValueError, match=r"activation must be one of none, relu, .* not 'swish'"):
        _core.problem("linear", [x], weights, {"activation": "swish"})


@pytest.mark.thinned(3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(
    ("shape", "oc"),
    [
        ((7,), 5),
        ((1,), 1),
        ((1, 64), 10),
        ((1, 515), 33),
        ((2, 100), 1000),
        ((3, 5, 48), 17),
        ((10, 2500), 40),
        ((16, 31), 64),
        ((9, 700), 300),
        ((31, 300), 50),
        ((65, 64), 48),
        ((100, 1030), 100),
        ((2, 200, 33), 70),
        ((257, 40), 3),
        ((197, 1100), 64),
        ((330, 90), 144),
        ((104, 64), 160),
        ((23, 20), 16),
        ((24, 20), 16),
        ((150, 1024), 70),
        ((2, 130, 2048), 20),
        ((2, 17), 33),
        ((3, 40), 65),
        ((2, 27, 100), 129),
        ((211, 1600), 96),
        ((3, 209, 50), 100),
        ((0, 8), 4),
        ((2, 0, 8), 4),
        ((4, 0), 3),
        ((4, 3), 0),
    ],
)
def test_equals_torch(
    core: ModuleType, shape: tuple[int, ...], oc: int, bias: bool, dtype: torch.dtype
) -> None:
    check(core, shape, oc, bias, dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), max_size=2),
    st.integers(1, 90),
    st.integers(1, 90),
    st.booleans(),
    st.sampled_from(DTYPES),
)
def test_any_problem(rows: list[int], ic: int, oc: int, bias: bool, dtype: torch.dtype) -> None:
    check(_core, (*rows, ic), oc, bias, dtype)


@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(
    core: ModuleType, algorithm: str, rows: int
) -> None:
    """Memory around the rows, NaN too, is not read."""
    room = torch.full((3, rows, 77), float("nan"))
    x, weight = room[1].normal_(), torch.randn(50, 77)
    x[rows // 2, 76], x[0, 5], weight[7, 3] = float("nan"), float("inf"), float("inf")
    problem = make_problem(core, "linear", [x], [weight])
    expected = F.linear(x, weight)
    if problem.refusal(algorithm):
        assert algorithm == "strassen" and rows == 1
        return
    actual = problem.run(algorithm, x).torch()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def strassen_sums(core: ModuleType, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Which of strassen's results come from sums of rows: they change in their last bits with the
    other half of the rows."""
    problem = make_problem(core, "linear", [x], [weight])
    half = (len(x) + 1) // 2
    other = torch.cat([x[:half] * 1.1, x[half:]])
    return (problem.run("strassen", x).torch() != problem.run("strassen", other).torch())[half:]


def test_strassen_mixes_rows_and_columns_that_are_alike(core: ModuleType) -> None:
    x, weight = torch.randn(58, 96), torch.randn(256, 96)
    assert strassen_sums(core, x, weight).double().mean() > 0.3
    x[:29] *= 100
    assert not strassen_sums(core, x, weight).any()
    x[:29] /= 100
    weight[:128] *= 100
    assert not strassen_sums(core, x, weight).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("of", ["rows", "columns"])
@pytest.mark.parametrize("shape", [(58, 96, 256), (211, 800, 130), (31, 50, 70)])
def test_small_rows_and_columns_stay_exact(
    core: ModuleType, shape: tuple[int, int, int], of: str, dtype: torch.dtype
) -> None:
    rows, ic, oc = shape
    x, weight = torch.randn(rows, ic, dtype=dtype), torch.randn(oc, ic, dtype=dtype)
    scaled = x if of == "rows" else weight
    exponents = torch.where(torch.rand(len(scaled), 1) < 0.5, torch.randn(len(scaled), 1), 0)
    scaled *= (4 * exponents).exp().to(dtype)
    scaled[3], scaled[len(scaled) - 4] = 0, 0
    expected = F.linear(x.double(), weight.double())
    length = x.double().norm(dim=1)[:, None] * weight.double().norm(dim=1)
    for algorithm in ALGORITHMS:
        actual = make_problem(core, "linear", [x], [weight]).run(algorithm, x).torch()
        assert ((actual - expected).abs() <= 30 * torch.finfo(dtype).eps * length).all(), algorithm


def test_strassen_does_not_mix_samples(core: ModuleType) -> None:
    x, weight = torch.randn(3, 30, 64), torch.randn(80, 64)
    x[1, 4, 5] = float("nan")
    problem = make_problem(core, "linear", [x], [weight])
    actual = problem.run("strassen", x).torch()
    assert not actual[1, 4].isfinite().any()
    for sample in (0, 2):
        alone = make_problem(core, "linear", [x[sample]], [weight]).run("strassen", x[sample])
        assert torch.equal(actual[sample], alone.torch())


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_strassen_is_the_default_for_many_rows_of_a_sample(core: ModuleType, threads: int) -> None:
    def default(*shape: int) -> str:
        weights = core.Weights.of([torch.zeros(3072, 768)])
        spec = core.Spec("float32", (*shape, 768))
        problem = core.problem("linear", [spec], weights, {}, threads)
        assert not problem.refusal("strassen")
        return str(problem.resolve("default"))

    # What begins two multiply-adds of 512 bits in a cycle has no time left for its sums.
    gains = {"strassen", "direct"} if core.isa == "avx512" else {"strassen"}
    assert default(1, 197) == default(16, 197) in gains
    assert default(197) == default(4, 20) == default(1, 10) == "direct"


@pytest.mark.parametrize("rows", [24, 50, 100, 150, 197])
def test_threads_do_not_change_what_is_taken(rows: int) -> None:
    weights = _core.Weights.of([torch.zeros(768, 768)])
    inputs = [_core.Spec("float32", (1, rows, 768))]
    problems = [_core.problem("linear", inputs, weights, {}, threads) for threads in (1, 2, 3, 16)]
    assert len({problem.resolve("default") for problem in problems}) == 1


def test_strassen_refuses_what_cannot_be_cut(core: ModuleType) -> None:
    # No more columns than the shortest vector has lanes.
    x, weight = torch.randn(9, 4), torch.randn(80, 4)
    message = "'strassen' cannot do this: a product of 9x4 by 4x80 is too small to be cut"
    with pytest.raises(ValueError, match=message):
        make_problem(core, "linear", [x], [weight]).run("strassen", x)


@pytest.mark.parametrize(
    ("shape", "weights", "message"),
    [
        ((2, 4), [torch.zeros(3, 5)], r"input must be \(\*, 5\) for weight \(3, 5\), not \(2, 4\)"),
        ((), [torch.zeros(3, 5)], r"input must be \(\*, 5\)"),
        ((2, 5), [torch.zeros(3, 5, 1)], r"weight must be \(OC, IC\)"),
        ((2, 5), [torch.zeros(3, 5), torch.zeros(2)], r"bias must be \(3,\), not \(2,\)"),
        ((2, 5), [torch.zeros(3, 5).double()], "input is float32 but the weights are float64"),
        ((2, 5), [], "takes an input, an optional residual, a weight"),
        ((1 << 60, 5), [torch.zeros(30, 5)], "overflows"),
    ],
)
def test_what_does_not_fit_is_told(
    shape: tuple[int, ...], weights: list[torch.Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem("linear", [_core.Spec("float32", shape)], _core.Weights.of(weights))


def test_huge_shapes_are_planned() -> None:
    weights = _core.Weights.of([torch.zeros(3, 5)])
    problem = _core.problem("linear", [_core.Spec("float32", (1 << 40, 5))], weights)
    assert problem.output.shape == (1 << 40, 3)
    for algorithm in ALGORITHMS:
        assert problem.workspace_bytes(algorithm) < 1 << 30
