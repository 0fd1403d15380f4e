"""Arrays of bfloat16: by algorithms that compute with it, and by way of float32 by all others."""

import copy
import pickle
import sys
from collections.abc import Iterator
from functools import partial
from math import inf, nan
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import ai3
from ai3 import Tensor
from ai3.validation.case import Randomly
from ai3.validation.cases import SUITES
from ai3.validation.trial import Trial, arrays_of
from test.compare import in_own_dtype
from test.unit.checks import LAYOUTS, assert_same_bits, run_in_layout

EPSILON = torch.finfo(torch.bfloat16).eps


@pytest.fixture(params=["floats", "pairs"])
def products(request: pytest.FixtureRequest, core: ModuleType) -> Iterator[ModuleType]:
    """The core when it multiplies as floats, and by the processor's instruction for pairs."""
    pairs = request.param == "pairs"
    if pairs and core.fma_peak("bfloat16") == 0:
        pytest.skip("the processor, or this level, has no instruction for pairs")
    core.force_pairs(pairs)
    yield core
    core.force_pairs(None)


def assert_rounded(actual: torch.Tensor, expected: torch.Tensor, reduction: int) -> None:
    """`actual` is `expected` summed in float32 and then, where it is bfloat16, rounded once."""
    assert actual.shape == expected.shape
    scale = max(expected.abs().max().item(), 1.0) if expected.numel() else 1.0
    allowed = 8 * torch.finfo(torch.float32).eps * scale * max(1, reduction) ** 0.5
    bound = allowed + (expected.abs() * EPSILON / 2 if actual.dtype == torch.bfloat16 else 0)
    assert ((actual.double() - expected).abs() <= bound).all()


CONVOLUTIONS = [
    # N, IC, H, W, OC, kernel, attributes
    (1, 64, 14, 14, 64, 3, {"padding": 1}),
    (2, 3, 33, 31, 24, 7, {"stride": 2, "padding": 3}),
    (1, 20, 9, 9, 17, 1, {}),
    (1, 37, 30, 29, 50, 1, {"stride": 2}),
    (2, 32, 10, 11, 48, 3, {"stride": (2, 1), "padding": (1, 0), "groups": 4}),
    (1, 5, 6, 6, 7, 2, {"dilation": 2}),
    (1, 600, 3, 3, 40, 3, {"padding": 1}),
    (3, 16, 1, 1, 33, 1, {"activation": "relu"}),
    (1, 17, 5, 140, 16, 3, {"padding": 1, "padding_mode": "reflect", "activation": "silu"}),
    (1, 6, 8, 8, 6, 3, {"groups": 6, "padding": 1}),
    (2, 40, 15, 14, 40, 5, {"groups": 40, "padding": 2, "stride": 2, "activation": "silu"}),
    (1, 19, 9, 33, 19, 3, {"groups": 19, "padding": 1, "padding_mode": "reflect"}),
    (1, 32, 7, 40, 32, 3, {"groups": 32, "dilation": 2, "activation": "relu"}),
    (2, 21, 9, 10, 42, 3, {"groups": 3, "padding": 1}),
    (1, 70, 8, 5, 30, 1, {"groups": 2, "activation": "silu"}),
    (1, 15, 8, 9, 10, 3, {"groups": 5, "stride": 2, "padding_mode": "replicate", "padding": 2}),
    (2, 66, 1, 7, 36, (1, 3), {"groups": 6}),
    (1, 4, 21, 60, 70, 5, {"stride": 4, "padding": 2}),
    (1, 9, 20, 31, 40, 3, {"stride": 3, "padding": 1, "activation": "relu"}),
    (1, 300, 9, 9, 33, 3, {"padding": 2, "dilation": 2}),
]


def convolution(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, given: dict[str, Any]) -> Any:
    rest = {k: v for k, v in given.items() if k not in ("padding_mode", "activation", "padding")}
    padding = given.get("padding", 0)
    if given.get("padding_mode"):
        x, padding = F.pad(x, (padding,) * 4, mode=given["padding_mode"]), 0
    y = F.conv2d(x, w, b, padding=padding, **rest)
    return {"relu": F.relu, "silu": F.silu, None: lambda y: y}[given.get("activation")](y)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("narrow_weights", [False, True])
def test_conv2d(products: ModuleType, case: Any, narrow_weights: bool) -> None:
    n, ic, h, w, oc, kernel, attributes = case
    kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x = torch.randn(n, ic, h, w).bfloat16()
    weight = torch.randn(oc, ic // attributes.get("groups", 1), kh, kw)
    bias = torch.randn(oc)
    if narrow_weights:
        weight, bias = weight.bfloat16(), bias.bfloat16()
    expected = convolution(x.double(), weight.bfloat16().double(), bias.double(), attributes)
    weights = products.Weights.of([weight, bias])
    for read in LAYOUTS:
        for written in LAYOUTS:
            for dtype in ("float32", "bfloat16"):
                problem = products.problem(
                    "conv2d",
                    [products.Spec("bfloat16", tuple(x.shape), read)],
                    weights,
                    {**attributes, "output_layout": written, "output_dtype": dtype},
                    2,
                )
                assert problem.output.dtype == dtype
                dense = read == written == "dense"
                for algorithm in ("direct", "implicit gemm"):
                    # The others are given NCHW alone.
                    assert problem.takes_bfloat16(algorithm) == (algorithm == "direct" or dense)
                    if problem.refusal(algorithm):
                        assert algorithm != "direct" and not dense
                        continue
                    actual = run_in_layout(products, problem, algorithm, x)
                    assert_rounded(actual, expected, weight[0].numel())


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv2d_of_float32_that_writes_bfloat16(core: ModuleType, case: Any) -> None:
    n, ic, h, w, oc, kernel, attributes = case
    kh, kw = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    x = torch.randn(n, ic, h, w)
    weight, bias = torch.randn(oc, ic // attributes.get("groups", 1), kh, kw), torch.randn(oc)
    expected = convolution(x.double(), weight.double(), bias.double(), attributes)
    weights = core.Weights.of([weight, bias])
    for read in LAYOUTS:
        for written in LAYOUTS:
            spec = core.Spec("float32", tuple(x.shape), read)
            given = {**attributes, "output_layout": written, "output_dtype": "bfloat16"}
            problem = core.problem("conv2d", [spec], weights, given, 2)
            assert problem.takes_bfloat16("direct") and problem.output.dtype == "bfloat16"
            assert_rounded(run_in_layout(core, problem, "direct", x), expected, weight[0].numel())


@pytest.mark.parametrize(
    ("algorithm", "kernel", "error"),
    [
        # What is transformed is rounded: the tile's points are 0, 1 and -1, or 2 and -2 too.
        ("winograd f2", 3, 1.0),
        ("winograd f4", 3, 6.0),
        ("winograd f2", 5, 6.0),
        ("winograd", 3, 1.0),
    ],
)
@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 33, 14, 13), 40), ((2, 64, 9, 9), 17), ((1, 3, 5, 5), 2)], ids=str
)
def test_winograd(
    products: ModuleType,
    algorithm: str,
    kernel: int,
    error: float,
    shape: tuple[int, ...],
    channels: int,
) -> None:
    """Products of transformed tiles and kernels that are both rounded, summed in float32."""
    x = torch.randn(shape).relu().bfloat16()
    weight = torch.randn(channels, shape[1], kernel, kernel) / kernel / shape[1] ** 0.5
    bias = torch.randn(channels)
    expected = F.silu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    results = []
    for read in LAYOUTS:
        for written in LAYOUTS:
            for dtype in ("float32", "bfloat16"):
                problem = products.problem(
                    "conv2d",
                    [products.Spec("bfloat16", shape, read)],
                    products.Weights.of([weight, bias]),
                    {
                        "padding": 1,
                        "activation": "silu",
                        "output_layout": written,
                        "output_dtype": dtype,
                    },
                    2,
                )
                actual = run_in_layout(products, problem, algorithm, x)
                assert actual.dtype == getattr(torch, dtype)
                results.append(actual)
                distance = (actual.double() - expected).norm() / expected.norm()
                assert distance < error * EPSILON
    for actual in results[::2]:
        assert_same_bits(actual, results[0])


@pytest.mark.parametrize("algorithm", ["direct", "implicit gemm"])
@pytest.mark.parametrize("written", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_conv2d_adds_a_residual(
    products: ModuleType, written: str, dtype: str, algorithm: str
) -> None:
    x, w = torch.randn(2, 19, 7, 6).bfloat16(), torch.randn(21, 19, 3, 3).bfloat16()
    other = torch.randn(2, 21, 5, 4).to(getattr(torch, dtype))
    problem = products.problem(
        "conv2d",
        [
            products.Spec("bfloat16", tuple(x.shape)),
            products.Spec(dtype, tuple(other.shape), written),
        ],
        products.Weights.of([w, None]),
        {"activation": "relu", "output_layout": written, "output_dtype": dtype},
    )
    expected = F.relu(F.conv2d(x.double(), w.double()) + other.double())
    if problem.takes_bfloat16(algorithm):
        assert_rounded(run_in_layout(products, problem, algorithm, x, other), expected, 19 * 9)
    else:
        assert algorithm != "direct" and written != "dense"


TRANSPOSED_CONVOLUTIONS = [
    # the input's shape, the weight's, attributes
    ((2, 32, 7, 9), (32, 20, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 17, 5, 6), (17, 9, 3, 3), {"stride": (2, 1), "padding": 1, "output_padding": (1, 0)}),
    ((1, 8, 6, 5), (8, 33, 3, 3), {"padding": 1}),
    ((3, 12, 4, 4), (12, 7, 2, 2), {"stride": 3}),
    ((1, 18, 5, 5), (18, 5, 3, 3), {"groups": 2, "dilation": 2, "stride": 2}),
    ((1, 20, 6, 7), (20, 1, 3, 3), {"groups": 20, "stride": 2, "padding": 1}),
    ((1, 40, 9, 8), (40, 24, 1, 1), {}),
    ((33, 6, 6), (33, 16, 5, 5), {"padding": 2}),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", TRANSPOSED_CONVOLUTIONS, ids=str)
def test_conv_transpose2d(products: ModuleType, case: Any, bias: bool) -> None:
    """In bfloat16 or, of float32 by name, rounded once, as is the sum with the bias."""
    shape, weight_shape, attributes = case
    x, weight = torch.randn(shape).bfloat16(), torch.randn(weight_shape).bfloat16()
    added = torch.randn(weight_shape[1] * attributes.get("groups", 1)) if bias else None
    expected = F.conv_transpose2d(
        x.double(), weight.double(), added.double() if added is not None else None, **attributes
    )
    for dtype in ("float32", "bfloat16"):
        for held in (weight, weight.float()):
            problem = products.problem(
                "conv_transpose2d",
                [products.Spec("bfloat16", shape)],
                products.Weights.of([held, added]),
                {**attributes, "output_dtype": dtype},
                2,
            )
            assert problem.output.dtype == dtype
            for algorithm in ("direct", "implicit gemm"):
                assert problem.takes_bfloat16(algorithm)
                actual = problem.run(algorithm, x).torch()
                assert str(actual.dtype) == f"torch.{dtype}"
                assert_rounded(actual, expected, weight[0].numel() * weight_shape[0])
    wide = products.problem(
        "conv_transpose2d",
        [products.Spec("float32", shape)],
        products.Weights.of([weight.float(), added]),
        attributes,
        2,
    )
    for algorithm in ("direct bf16", "default bf16"):
        assert not wide.refusal(algorithm)
        actual = wide.run(algorithm, x.float()).torch()
        assert actual.dtype is torch.float32
        if "winograd" not in wide.resolve(algorithm):
            assert_rounded(actual, expected, weight[0].numel() * weight_shape[0])


@pytest.mark.parametrize("narrow_weights", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_expand_depthwise(products: ModuleType, dtype: str, narrow_weights: bool) -> None:
    """The expanded image is float32, whatever lies around it."""
    for shape, channels, stride in (((2, 16, 112, 60), 40, 1), ((1, 37, 30, 31), 70, 2)):
        x = torch.randn(shape).bfloat16()
        expand, depthwise = torch.randn(channels, shape[1], 1, 1), torch.randn(channels, 1, 3, 3)
        biases = [torch.randn(channels) for _ in range(2)]
        expand = expand.bfloat16() if narrow_weights else expand.bfloat16().float()
        depthwise = depthwise.bfloat16() if narrow_weights else depthwise.bfloat16().float()
        problem = products.problem(
            "expand_depthwise",
            [products.Spec("bfloat16", shape, "blocked")],
            products.Weights.of([expand, biases[0], depthwise, biases[1]]),
            {
                "expand_activation": "relu",
                "activation": "hardswish",
                "stride": stride,
                "padding": 1,
                "output_dtype": dtype,
            },
            2,
        )
        assert problem.takes_bfloat16("direct") and problem.output.dtype == dtype
        expanded = F.relu(F.conv2d(x.double(), expand.double(), biases[0].double()))
        taps = {"stride": stride, "padding": 1, "groups": channels}
        expected = F.conv2d(expanded, depthwise.double(), biases[1].double(), **taps)
        actual = run_in_layout(products, problem, "direct", x)
        assert_rounded(actual, F.hardswish(expected), 10 * shape[1])


POOLS = [
    # the input's shape, attributes
    ((2, 5, 16, 18), {"kernel_size": 2}),
    ((1, 17, 15, 14), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((3, 4, 40, 90), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((2, 3, 20, 77), {"kernel_size": (3, 5), "stride": 1, "padding": (1, 2)}),
    ((1, 2, 9, 130), {"kernel_size": (2, 4), "stride": (1, 3), "ceil_mode": True}),
    ((19, 7, 7), {"kernel_size": 7}),
    ((1, 33, 6, 61), {"kernel_size": (6, 61)}),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pooling(core: ModuleType, case: Any, layout: str) -> None:
    """Sums in float32, of planes too, whatever way they are read; rounded once."""
    shape, attributes = case
    x = torch.randn(shape).bfloat16()
    ways = {
        "avgpool2d": (attributes, F.avg_pool2d(x.double(), **attributes)),
        "maxpool2d": (attributes, F.max_pool2d(x.double(), **attributes)),
    }
    for size in ((1, 1), (3, 5)):
        ways[f"adaptiveavgpool2d {size}"] = (
            {"output_size": size},
            F.adaptive_avg_pool2d(x.double(), size),
        )
    for name, (given, expected) in ways.items():
        spec = core.Spec("bfloat16", shape, layout)
        problem = core.problem(name.split()[0], [spec], None, given, 2)
        assert problem.takes_bfloat16("direct")
        actual = run_in_layout(core, problem, "direct", x)
        if name == "maxpool2d":
            assert_same_bits(actual.double(), expected)
        else:
            assert_rounded(actual, expected, 400)


@pytest.mark.parametrize("rows", [1, 3, 23, 24, 61])
@pytest.mark.parametrize("widths", [(1, 1), (70, 33), (2500, 40)], ids=str)
@pytest.mark.parametrize("narrow_weights", [False, True])
def test_linear(
    products: ModuleType, rows: int, widths: tuple[int, int], narrow_weights: bool
) -> None:
    x = torch.randn(rows, widths[0]).bfloat16()
    weight, bias = torch.randn(widths[1], widths[0]), torch.randn(widths[1])
    if narrow_weights:
        weight, bias = weight.bfloat16(), bias.bfloat16()
    expected = F.gelu(F.linear(x.double(), weight.bfloat16().double(), bias.double()))
    for dtype in ("float32", "bfloat16"):
        problem = products.problem(
            "linear",
            [products.Spec("bfloat16", tuple(x.shape))],
            products.Weights.of([weight, bias]),
            {"activation": "gelu", "output_dtype": dtype},
            2,
        )
        actual = problem.run("direct", x).torch()
        assert str(actual.dtype) == f"torch.{dtype}"
        assert_rounded(actual, expected, widths[0])


@pytest.mark.parametrize("op", sorted(SUITES.keys() - {"reorder"}))
def test_every_algorithm(core: ModuleType, op: str) -> None:
    """Results are rounded once, whether an algorithm computes in bfloat16 or in float32; so are
    weights, where they are not bfloat16 already."""
    tried = 0
    for seed in range(6):
        case = SUITES[op].draw(Randomly((op, seed)), op)
        given, held = arrays_of(Trial(case, "float32", seed=seed))
        inputs = [torch.tensor(x) for x in given]
        inputs = [x.bfloat16() if x.is_floating_point() else x for x in inputs]
        weights = [w if w is None else torch.tensor(w).bfloat16() for w in held]
        problem, wide = (
            core.problem(
                op,
                [
                    core.Spec(dtype if x.dtype.is_floating_point else "int64", x.shape)
                    for x in inputs
                ],
                core.Weights.of([w if w is None else w.to(to) for w in weights]),
                dict(case.attributes),
            )
            for dtype, to in (
                ("bfloat16", torch.float32 if seed % 2 else torch.bfloat16),
                ("float64", torch.float64),
            )
        )
        exact = wide.reference(*(x.double() if x.is_floating_point() else x for x in inputs))
        expected = exact.torch()
        if not expected.numel():
            continue
        for algorithm in ("reference", *core.algorithms()[op]):
            if algorithm != "reference" and problem.refusal(algorithm):
                continue
            run = problem.reference if algorithm == "reference" else partial(problem.run, algorithm)
            actual = run(*inputs).torch()
            assert str(actual.dtype) == f"torch.{problem.output.dtype}"
            if "winograd" in algorithm:  # some of what it transforms is rounded on the way
                assert (actual.double() - expected).norm() < 6 * EPSILON * expected.norm()
            elif actual.is_floating_point():
                known = expected.isfinite()
                assert_same_bits(actual.double()[~known], expected[~known])
                assert_rounded(actual[known], expected[known], 100)
            else:
                assert torch.equal(actual, expected)
            tried += 1
    assert tried


def test_what_computes_in_bfloat16(core: ModuleType) -> None:
    """Of all operations and algorithms those that go by way of float32 in every case."""
    seen, native = set(), set()
    for op in SUITES:
        for seed in range(6):
            case = SUITES[op].draw(Randomly((op, seed)), op)
            given, held = arrays_of(Trial(case, "float32"))
            layout = "blocked" if op == "expand_depthwise" else "dense"
            specs = [
                core.Spec("int64" if x.dtype.kind == "i" else "bfloat16", x.shape, layout)
                for x in given
            ]
            problem = core.problem(op, specs, core.Weights.of(held), dict(case.attributes))
            for name in set(in_own_dtype(core.algorithms()[op])) - {"default", "guess"}:
                if not problem.refusal(name):
                    seen.add((op, name))
                    native |= {(op, name)} if problem.takes_bfloat16(name) else set()
    by_float32: dict[str, set[str]] = {}
    for op, name in seen - native:
        by_float32.setdefault(op, set()).add(name)
    assert by_float32 == BY_FLOAT32


GEMMS = frozenset({"gemm", "implicit precomp gemm", "smm", "fft"})
BY_FLOAT32 = {
    **dict.fromkeys(("conv2d", "conv2d_grad_input", "conv_transpose2d"), GEMMS),
    "linear": {"strassen"},
    **dict.fromkeys(
        (
            *("conv2d_grad_weight", "conv2d_grad_bias", "recurrence", "prod", "cumsum", "cumprod"),
            *("argmax", "argmin", "sort", "argsort", "index_select", "gather", "scatter"),
        ),
        frozenset({"direct"}),
    ),
}


def test_by_name(core: ModuleType) -> None:
    """'... bf16' rounds what is multiplied and gives float32."""
    x, w = torch.randn(2, 20, 8, 8), torch.randn(30, 20, 3, 3)
    problem = core.problem(
        "conv2d", [core.Spec("float32", tuple(x.shape))], core.Weights.of([w, None]), {}
    )
    expected = F.conv2d(x.bfloat16().double(), w.bfloat16().double())
    for name in ("direct bf16", "default bf16", "winograd f2 bf16"):
        assert problem.refusal(name) == ""
        actual = problem.run(name, x).torch()
        assert actual.dtype == torch.float32
        if name == "direct bf16":
            assert_rounded(actual, expected, 180)
        assert (actual.double() - expected).norm() < EPSILON * expected.norm()
    assert problem.resolve("default bf16").endswith(" bf16")
    assert not problem.resolve("default").endswith(" bf16")
    names = {name for known in core.algorithms().values() for name in known}
    assert {"direct bf16", "default bf16"} <= names
    double = core.problem(
        "conv2d", [core.Spec("float64", tuple(x.shape))], core.Weights.of([w.double(), None]), {}
    )
    assert double.refusal("direct bf16") == "it rounds float32 to bfloat16, and this is float64"
    with pytest.raises(ValueError, match="no algorithm 'quick bf16'"):
        problem.refusal("quick bf16")


@pytest.mark.parametrize("read", LAYOUTS)
@pytest.mark.parametrize("written", LAYOUTS)
def test_reorder_converts(core: ModuleType, read: str, written: str) -> None:
    x = torch.randn(2, 21, 5, 7)
    for before in (torch.float32, torch.bfloat16):
        for after in ("float32", "bfloat16"):
            spec = core.Spec(str(before).removeprefix("torch."), tuple(x.shape), read)
            problem = core.problem(
                "reorder", [spec], None, {"layout": written, "output_dtype": after}
            )
            given = x.to(before)
            actual = run_in_layout(core, problem, "direct", given)
            assert_same_bits(actual.double(), given.to(getattr(torch, after)).double())


SPECIAL = torch.tensor(
    [0, -0.0, 1, 1.00390625, 1.01171875, 3.4e38, -3.4e38, 1e-40, -9e-41, 1e-45, inf, -inf, nan]
)


def test_rounding_is_torchs(core: ModuleType) -> None:
    """To nearest, ties to even; subnormals, infinities and NaN as torch has them."""
    x = torch.cat([SPECIAL, torch.randn(1000), torch.randn(1000) * 1e-38])
    narrow = core.problem(
        "reorder",
        [core.Spec("float32", tuple(x.shape))],
        None,
        {"layout": "dense", "output_dtype": "bfloat16"},
    )
    actual = narrow.run("direct", x).torch()
    expected = x.bfloat16()
    numbers = ~expected.isnan()
    assert (actual.view(torch.int16) == expected.view(torch.int16))[numbers].all()
    assert actual.isnan()[~numbers].all()


def test_infinities_and_nan_spread(products: ModuleType) -> None:
    """Where a sum has one, and nowhere else: blocks of channels are filled up with zeros."""
    x = torch.randn(1, 21, 6, 6)
    x[0, 20, 0, 0], x[0, 3, 5, 5] = inf, nan
    for groups in (1, 3):
        w = torch.randn(21, 21 // groups, 3, 3)
        expected = F.conv2d(x.bfloat16().double(), w.bfloat16().double(), padding=1, groups=groups)
        for read in LAYOUTS:
            for written in LAYOUTS:
                problem = products.problem(
                    "conv2d",
                    [products.Spec("bfloat16", tuple(x.shape), read)],
                    products.Weights.of([w, None]),
                    {"padding": 1, "groups": groups, "output_layout": written},
                )
                for algorithm in ("direct", "implicit gemm"):
                    if problem.refusal(algorithm):
                        continue
                    actual = run_in_layout(products, problem, algorithm, x.bfloat16())
                    assert torch.equal(actual.isfinite(), expected.isfinite())


def test_programs_have_no_bfloat16(core: ModuleType) -> None:
    spec = core.Spec("float32", (4,))
    with pytest.raises(ValueError, match="'bfloat16', which is no function of programs"):
        core.problem("pointwise", [spec], None, {"program": "bfloat16(x0)"})


def test_weights_of_bfloat16_alone(core: ModuleType) -> None:
    """An input in float32 is computed with what they are in float32; layers refuse it, as torch."""
    x, w = torch.randn(30, 20), torch.randn(40, 20).bfloat16()
    spec = core.Spec("float32", tuple(x.shape))
    problem = core.problem("linear", [spec], core.Weights.of([w]), {})
    assert problem.output.dtype == "float32" and not problem.takes_bfloat16("direct")
    wide = core.problem("linear", [spec], core.Weights.of([w.float()]), {})
    for algorithm in wide.ranking():
        name = algorithm[0]
        assert_same_bits(problem.run(name, x).torch(), wide.run(name, x).torch())
    call = core.Call("linear", {}, "direct")
    call.set_weights(core.Weights.of([w]))
    with pytest.raises(ValueError, match="of one dtype, not float32 and bfloat16"):
        call(x)


def test_wrong_dtypes(core: ModuleType) -> None:
    spec = core.Spec("float32", (1, 4))
    with pytest.raises(ValueError, match=r"float32 or bfloat16 .* not float64 for float32"):
        core.problem(
            "linear", [spec], core.Weights.of([torch.randn(3, 4)]), {"output_dtype": "float64"}
        )


def test_tensor() -> None:
    """A result in bfloat16 goes to torch and back, and is pickled, without a copy in float32."""
    x = torch.randn(3, 5).bfloat16()
    tensor = Tensor(x)
    assert tensor.dtype == "bfloat16"
    for made in (tensor, copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        assert_same_bits(made.torch().view(torch.int16), x.view(torch.int16))
    assert_same_bits(torch.from_numpy(tensor.bits).view(torch.int16), x.view(torch.int16))
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(tensor)
    with pytest.raises(TypeError, match="no bits"):
        _ = Tensor(torch.randn(3)).bits


def test_tensor_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ml_dtypes' type where that is installed, else the error says so."""
    tensor = Tensor(torch.ones(3).bfloat16())
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="install ml_dtypes"):
        tensor.numpy()


def test_algorithms_from_outside_see_float32() -> None:
    """What a Python function is given of a network in bfloat16 is float32, which numpy has."""
    seen = []

    @ai3.algorithm("linear", "seen", arrays="numpy")
    def product(problem: Any, x: Any, weight: Any, bias: Any, output: Any) -> None:
        seen.append((problem.dtype, x.dtype.name, weight.dtype.name))
        output[...] = x @ weight.T + bias

    try:
        layer = torch.nn.Linear(8, 4).bfloat16()
        x = torch.randn(3, 8).bfloat16()
        ai3.swap(layer, {"linear": "seen"})
        with torch.no_grad():
            actual = layer(x)
        expected = F.linear(x.double(), layer.weight.double(), layer.bias.double())
        assert_rounded(actual, expected.detach(), 8)
        assert set(seen) == {("float32",) * 3}
    finally:
        ai3.remove_algorithm("linear", "seen")
