"""conv2d: every algorithm of the registry x named problems x dtype x instruction set level."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core, layers
from ai3.ops import ON_CPU
from ai3.validation import convolutions
from ai3.validation.case import Case as Given
from ai3.validation.trial import ERROR_FACTORS
from test.compare import in_own_dtype, vector_of
from test.unit.checks import LAYOUTS, Drawn, assert_within, make_problem, run_in_layout

ALGORITHMS = in_own_dtype(ON_CPU["conv2d"])
DTYPES = [torch.float32, torch.float64]


@dataclass(frozen=True)
class Case:
    """A problem; attributes that are not given have their defaults."""

    input: tuple[int, ...]
    oc: int
    kernel: tuple[int, int]
    attributes: dict[str, Any] = field(default_factory=dict)
    bias: bool = True

    @staticmethod
    def of(given: Given) -> "Case":
        (x,), (weight, bias) = given.inputs, given.weights
        assert weight is not None
        return Case(x, weight[0], (weight[2], weight[3]), dict(given.attributes), bias is not None)

    def tensors(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        groups = self.attributes.get("groups", 1)
        x = torch.randn(self.input, dtype=dtype)
        weight = torch.randn(self.oc, self.input[-3] // groups, *self.kernel, dtype=dtype)
        weight /= weight[0].numel() ** 0.5  # sums of any length are of order 1
        return x, weight, torch.randn(self.oc, dtype=dtype) if self.bias else None

    def by_torch(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        module = torch.nn.Conv2d(
            self.input[-3],
            self.oc,
            self.kernel,
            bias=self.bias,
            dtype=torch.float64,
            **self.attributes,
        )
        with torch.no_grad():
            module.weight.copy_(w)
            if b is not None and module.bias is not None:
                module.bias.copy_(b)
            return module(x.double())


CASES = {name: Case.of(given) for name, given in convolutions.CONVOLUTIONS.items()}


def is_refused(case: Case, algorithm: str, vector: int) -> bool:
    """Whether an algorithm is known not to do a case: Winograd's tiles fit few kernels and groups
    of whole vectors, transforms have a length and no stride."""
    if algorithm == "fft":
        return case.attributes.get("stride", 1) not in (1, (1, 1)) or max(case.kernel) > 128
    if "winograd" not in algorithm:
        return False
    kernels = [(3, 3)] if algorithm == "winograd f6" else [(3, 3), (5, 5)]
    ones = [case.attributes.get(name, 1) for name in ("stride", "dilation")]
    groups = case.attributes.get("groups", 1)
    tails = [channels // groups % vector for channels in (case.input[-3], case.oc)]
    return (
        case.kernel not in kernels
        or any(one not in (1, (1, 1)) for one in ones)
        or (groups > 1 and any(tails))
    )


def error_factor(algorithm: str) -> float:
    """What an algorithm adds to the rounding of a sum."""
    return ERROR_FACTORS.get(algorithm, 1)


def assert_close(actual: Any, expected: torch.Tensor, algorithm: str) -> None:
    tolerance = 3e-5 * error_factor(algorithm) ** 0.5
    torch.testing.assert_close(
        torch.as_tensor(actual), expected, equal_nan=True, rtol=tolerance, atol=tolerance
    )


def reduction(weight: torch.Tensor) -> int:
    return weight[0].numel() + 1


def check(case: Case, algorithm: str, x: torch.Tensor, *weights: Any, core: Any = _core) -> None:
    """Equals torch, or is refused where it should be."""
    weight, bias = weights
    problem = make_problem(core, "conv2d", [x], [weight, bias], **case.attributes)
    assert bool(problem.refusal(algorithm)) == is_refused(case, algorithm, vector_of(core, x.dtype))
    if problem.refusal(algorithm):
        with pytest.raises(ValueError, match=f"'{algorithm}' cannot do this: the "):
            problem.run(algorithm, x)
        return
    actual = problem.run(algorithm, x).torch()
    expected = case.by_torch(x, weight, bias)
    assert actual.dtype == x.dtype
    magnitude = 4 * error_factor(problem.resolve(algorithm))
    assert_within(actual, expected, reduction=reduction(weight), magnitude=magnitude)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equals_torch(core: ModuleType, algorithm: str, name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    check(case, algorithm, *case.tensors(dtype), core=core)


LAYOUT_CASES = [
    "3x3",
    "3x3_no_padding",
    "unbatched",
    "1x1",
    "1x1_half_a_vector",
    "3x3_half_a_vector",
    "1x1_strided",
    "one_pixel_wide",
    "one_pixel_of_one_image",
    "one_pixel_of_whole_blocks",
    "one_pixel_unbatched",
    "one_pixel_of_many_images",
    "kernel_is_image",
    "wide_row",
    "deep_and_narrow",
    "stride_pair",
    "7x7_stride_2",
    "dilated",
    "reflect",
    "groups_2",
    "groups_tails",
    "depthwise",
    "depthwise_stride_2",
    "depthwise_multiplier",
    "depthwise_circular",
    "depthwise_wide",
    "depthwise_wide_stride_2",
    "depthwise_dilated",
    "depthwise_not_square",
    "depthwise_small",
    "depthwise_one_vector",
    "depthwise_two_vectors",
    "depthwise_7x7",
    "depthwise_in_padding",
    "depthwise_strided_dilated",
    "empty_batch",
]


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", LAYOUT_CASES)
@pytest.mark.parametrize("output_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_epilogues(
    core: ModuleType, layout: str, output_layout: str, name: str
) -> None:
    """Every algorithm that does not refuse the layouts, with and without residual and ReLU; at
    least one does not, and none refuses NCHW."""
    case = CASES[name]
    done = set()
    for dtype in DTYPES:
        x, weight, bias = case.tensors(dtype)
        expected = case.by_torch(x, weight, bias)
        residual = torch.randn(expected.shape, dtype=dtype)
        weights = core.Weights.of([weight, bias])
        attributes = {**case.attributes, "output_layout": output_layout}
        spec = core.Spec(str(dtype).removeprefix("torch."), tuple(x.shape), layout)
        plain = core.problem("conv2d", [spec], weights, attributes, 1)
        fused = core.problem(
            "conv2d", [spec, plain.output], weights, {**attributes, "activation": "relu"}, 2
        )
        for algorithm in ALGORITHMS:
            assert plain.refusal(algorithm) == fused.refusal(algorithm)
            if plain.refusal(algorithm):
                continue
            done.add(algorithm)
            magnitude = 4 * error_factor(plain.resolve(algorithm))
            for problem, inputs, wanted in (
                (plain, [x], expected),
                (fused, [x, residual], (expected + residual.double()).relu()),
            ):
                actual = run_in_layout(core, problem, algorithm, *inputs)
                assert_within(actual, wanted, reduction=reduction(weight), magnitude=magnitude)
    assert done >= {"direct", "default"}
    if layout == output_layout == "dense":
        vector = vector_of(core, x.dtype)
        assert done == {name for name in ALGORITHMS if not is_refused(case, name, vector)}


@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
@pytest.mark.parametrize("channels", [(3072, 64), (3100, 48), (2050, 70)], ids=str)
def test_pixels_of_many_channels(core: ModuleType, layout: str, channels: tuple[int, int]) -> None:
    """A stretch of such pixels fills the near cache: they are read in parts, to the same sums."""
    ic, oc = channels
    case = Case((2, ic, 12, 13), oc, (1, 1))
    for dtype in DTYPES:
        x, weight, bias = case.tensors(dtype)
        residual = torch.randn(2, oc, 12, 13, dtype=dtype)
        expected = (case.by_torch(x, weight, bias) + residual.double()).relu()
        weights = core.Weights.of([weight, bias])
        attributes = {"output_layout": layout, "activation": "relu"}
        name = str(dtype).removeprefix("torch.")
        specs = [core.Spec(name, tuple(array.shape), layout) for array in (x, residual)]
        results = []
        for threads in (1, 2):
            problem = core.problem("conv2d", specs, weights, attributes, threads)
            results.append(run_in_layout(core, problem, "direct", x, residual))
            assert_within(results[-1], expected, reduction=reduction(weight), magnitude=4)
        assert torch.equal(*results)


def test_absent_channels_of_one_pixel_are_zero(core: ModuleType) -> None:
    x, weight = torch.randn(1, 32, 1, 1), torch.randn(70, 32, 1, 1)
    spec = core.Spec("float32", tuple(x.shape), "blocked")
    conv = core.problem("conv2d", [spec], core.Weights.of([weight]), {})
    held = core.Spec("float32", (conv.output.bytes // 4,))
    copy, memory = core.problem("flatten", [held]), ("arena", 0, 0)
    steps = [
        (copy, "direct", [("input", 1, 0)], memory),
        (conv, "direct", [("input", 0, 0)], memory),
        (copy, "direct", [memory], ("output", 0, 0)),
    ]
    flat = core.Spec("float32", (32,))
    executor = core.Executor([flat, held], [held], [], steps, held.bytes)
    (written,) = executor([x.flatten(), torch.full(held.shape, float("nan"))])
    assert not torch.as_tensor(written)[70:].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_reference_equals_torch(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    x, weight, bias = case.tensors(dtype)
    problem = make_problem(_core, "conv2d", [x], [weight, bias], **case.attributes)
    expected = case.by_torch(x, weight, bias)
    assert_within(problem.reference(x).torch(), expected, reduction=1, magnitude=20)


@st.composite
def problems(draw: st.DrawFn) -> Case:
    return Case.of(convolutions.draw_convolution(Drawn(draw)))


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from(DTYPES))
def test_any_problem(case: Case, dtype: torch.dtype) -> None:
    tensors = case.tensors(dtype)
    for algorithm in ALGORITHMS:
        check(case, algorithm, *tensors)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_the_result(algorithm: str, threads: int) -> None:
    case = Case((3, 20, 19, 23), 70, (3, 3), {"padding": 1})
    x, weight, bias = case.tensors(torch.float32)
    before = torch.get_num_threads()
    call = layers.Conv2D(weight, bias, padding=1, algorithm=algorithm)
    expected = call(x)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(call(x), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity_reach_what_reads_them_and_nothing_else(algorithm: str) -> None:
    x = torch.randn(1, 3, 9, 40)
    x[0, 1, 4, 7], x[0, 2, 8, 19] = float("nan"), float("inf")
    weight, bias = torch.randn(20, 3, 3, 3), torch.randn(20)
    actual = layers.Conv2D(weight, bias, padding=1, algorithm=algorithm)(x)
    expected = F.conv2d(x, weight, bias, padding=1)
    if algorithm == "fft":
        # All pixels of a tile are sums over the tile's whole input, which is the image here.
        assert not actual.isfinite()[~expected.isfinite()].any()
        return
    if "winograd" in algorithm or algorithm in ("default", "guess"):
        # The same of smaller tiles.
        near = F.max_pool2d((~expected.isfinite()).float(), 15, 1, 7) > 0
        assert not actual.isfinite()[~expected.isfinite()].any()
        actual, expected = actual[~near], expected[~near]
        assert actual.numel() > 0
    assert_close(actual, expected, algorithm)


GROUPED = ["groups_2", "groups_tails", "grouped_wide", "grouped_few_pixels", "few_pixels_grouped"]


@pytest.mark.parametrize("name", [*GROUPED, "many_narrow_groups", "depthwise_multiplier"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_stay_in_their_group(
    core: ModuleType, name: str, dtype: torch.dtype
) -> None:
    """Blocks of channels span groups: what the others give does not change by a bit."""
    case = CASES[name]
    x, weight, bias = case.tensors(dtype)
    groups = case.attributes["groups"]
    marked = x.clone()
    own = slice(x.shape[1] // groups, 2 * (x.shape[1] // groups))
    marked[:, own][:, :, 1::3, 2::3] = float("inf")
    marked[:, own][:, -1, 0, 0] = float("nan")
    expected = case.by_torch(marked, weight, bias)
    for layout in LAYOUTS:
        for output_layout in LAYOUTS:
            for activation in ("none", "relu"):
                attributes = {
                    **case.attributes,
                    "output_layout": output_layout,
                    "activation": activation,
                }
                spec = core.Spec(str(dtype).removeprefix("torch."), tuple(x.shape), layout)
                weights = core.Weights.of([weight, bias])
                problem = core.problem("conv2d", [spec], weights, attributes)
                for algorithm in ALGORITHMS:
                    if problem.refusal(algorithm):
                        continue
                    plain, actual = (
                        run_in_layout(core, problem, algorithm, given).unflatten(1, (groups, -1))
                        for given in (x, marked)
                    )
                    for group in set(range(groups)) - {1}:
                        assert torch.equal(actual[:, group], plain[:, group]), algorithm
                    if algorithm == "direct" and activation == "none":
                        same = expected.unflatten(1, (groups, -1))[:, 1]
                        assert torch.equal(actual[:, 1].isfinite(), same.isfinite())
                        assert torch.equal(actual[:, 1].isnan(), same.isnan())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memory_around_the_input_is_not_read(algorithm: str) -> None:
    """NaN on every side of the input would show in the result if it were."""
    room = torch.full((3, 4, 10, 11), float("nan"))
    room[1] = torch.randn(4, 10, 11)
    weight = torch.randn(17, 4, 3, 3)
    actual = layers.Conv2D(weight, padding=1, algorithm=algorithm)(room[1])
    torch.testing.assert_close(actual, F.conv2d(room[1], weight, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["direct", "gemm", "implicit gemm"])
def test_results_beyond_the_caches(core: ModuleType, algorithm: str) -> None:
    """Which are written past them, where vectors of them are whole."""
    case = Case((3, 2, 224, 144), 70, (3, 3), {"padding": 1})
    x, weight, bias = case.tensors(torch.float32)
    problem = make_problem(
        core, "conv2d", [x], [weight, bias], activation="relu", **case.attributes
    )
    actual = problem.run(algorithm, x).torch()
    assert_close(actual, case.by_torch(x, weight, bias).relu().float(), algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x.flip(0).numpy()[::-1],
    ],
    ids=["channels_last", "transposed", "every_second", "expanded", "numpy_reversed"],
)
def test_strided_input(algorithm: str, strided: Any) -> None:
    x = strided(torch.randn(3, 6, 10, 11))
    weight = torch.randn(9, 6, 3, 3)
    actual = layers.Conv2D(weight, algorithm=algorithm)(x)
    assert type(actual) is type(x)
    expected = F.conv2d(torch.as_tensor(x.copy() if hasattr(x, "copy") else x), weight)
    assert_close(actual, expected, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_strided_weight(algorithm: str) -> None:
    x = torch.randn(1, 6, 10, 11)
    weight = torch.randn(9, 6, 3, 3).contiguous(memory_format=torch.channels_last)
    actual = layers.Conv2D(weight, algorithm=algorithm)(x)
    assert_close(actual, F.conv2d(x, weight), algorithm)


def test_gemm_holds_the_im2col_matrix_and_implicit_gemm_only_a_block_of_it() -> None:
    x, weight = torch.randn(1, 64, 56, 56), torch.randn(64, 64, 3, 3)
    problem = make_problem(_core, "conv2d", [x], [weight], padding=1)
    matrix = 64 * 9 * 56 * 56 * 4
    assert matrix <= problem.workspace_bytes("gemm") < 1.02 * matrix
    assert 0 < problem.workspace_bytes("implicit gemm") < matrix / 50


def test_the_columns_of_a_pointwise_convolution_are_its_input() -> None:
    x, weight = torch.randn(1, 64, 56, 56), torch.randn(64, 64, 1, 1)
    problem = make_problem(_core, "conv2d", [x], [weight])
    for algorithm in ("gemm", "implicit gemm", "implicit precomp gemm"):
        assert problem.workspace_bytes(algorithm) == 0


def test_implicit_precomp_gemm_holds_an_indirection_table() -> None:
    x, weight = torch.randn(1, 4, 48, 48), torch.randn(8, 4, 3, 3)
    spec = _core.Spec("float32", tuple(x.shape))
    packed = {}
    for algorithm in ("implicit gemm", "implicit precomp gemm"):
        weights = _core.Weights.of([weight])
        problem = _core.problem("conv2d", [spec], weights, {"padding": 1})
        for _ in range(2):
            problem.run(algorithm, x)
            assert packed.setdefault(algorithm, weights.packed_bytes) == weights.packed_bytes
        # The table depends on the images' size, not on how many there are.
        more = _core.problem(
            "conv2d", [_core.Spec("float32", (3, 4, 48, 48))], weights, {"padding": 1}
        )
        more.run(algorithm, torch.randn(3, 4, 48, 48))
        assert weights.packed_bytes == packed[algorithm]
    table = packed["implicit precomp gemm"] - packed["implicit gemm"]
    vectors = 48 * 48 // (64 if _core.isa == "avx512" else 32 if _core.isa == "avx2" else 16) * 4
    assert 9 * vectors * 16 <= table < 9 * vectors * 16 + 8 * vectors + 128


def test_winograd_holds_groups_of_transformed_tiles_only() -> None:
    x, weight = torch.randn(1, 64, 224, 224), torch.randn(64, 64, 3, 3)
    problem = make_problem(_core, "conv2d", [x], [weight], padding=1)
    for tile in (2, 4, 6):
        tiles = -(-224 // tile)
        transformed = tiles * tiles * (tile + 2) ** 2 * 64 * 4
        whole = 2 * transformed + 64 * 64 * (tile + 2) ** 2 * 4
        assert 0 < problem.workspace_bytes(f"winograd f{tile}") < whole / 4


@pytest.mark.parametrize(
    ("shape", "kernel"), [((1, 512, 20, 20), 3), ((1, 2048, 12, 12), 3), ((1, 900, 12, 12), 5)]
)
def test_default_is_within_1e_5_of_double_precision(shape: tuple[int, ...], kernel: int) -> None:
    x = torch.randn(shape)
    weight = torch.randn(32, shape[1], kernel, kernel) * (2 / (shape[1] * kernel**2)) ** 0.5
    expected = F.conv2d(x.double(), weight.double(), padding=kernel // 2)
    for algorithm in ("default", "guess", "winograd"):
        actual = layers.Conv2D(weight, padding=kernel // 2, algorithm=algorithm)(x)
        assert (actual - expected).norm() <= 1e-5 * expected.norm(), algorithm


def test_guess_takes_the_least_estimated_cost() -> None:
    x, weight = torch.randn(1, 64, 56, 56), torch.randn(64, 64, 3, 3)
    problem = make_problem(_core, "conv2d", [x], [weight], padding=1)
    ranking = problem.ranking()
    assert [cost for _, cost in ranking] == sorted(cost for _, cost in ranking)
    assert {"direct", "winograd"} <= {name for name, _ in ranking} < set(ALGORITHMS)
    assert problem.resolve("guess") == ranking[0][0] == "winograd"
    strided = make_problem(_core, "conv2d", [x], [weight], stride=2)
    assert "winograd" not in [name for name, _ in strided.ranking()]


GRADIENTS = {
    "conv2d": ([(1, 64, 56, 56)], [(64, 64, 3, 3)], {}),
    "conv2d_grad_input": ([(1, 64, 56, 56)], [(64, 64, 3, 3)], {"input_size": (56, 56)}),
    "conv2d_grad_weight": ([(1, 64, 56, 56)] * 2, [], {"kernel_size": (3, 3)}),
}


@pytest.mark.parametrize("op", GRADIENTS)
def test_tiles_by_name_have_an_estimate_and_are_not_elected(op: str) -> None:
    inputs, weights, own = GRADIENTS[op]
    arrays = [[torch.zeros(shape) for shape in shapes] for shapes in (inputs, weights)]
    problem = make_problem(_core, op, *arrays, padding=1, **own)
    tiles = [name for name in _core.algorithms()[op] if name.startswith("winograd f")]
    costs = {name: problem.cost(name) for name in in_own_dtype(tiles) if not problem.refusal(name)}
    assert len(costs) > 1 and all(0 < cost < float("inf") for cost in costs.values())
    assert problem.cost("winograd") in costs.values()
    assert not {name for name, _ in problem.ranking()} & {*tiles}


def test_smm_needs_no_workspace() -> None:
    case = CASES["3x3"]
    x, weight, bias = case.tensors(torch.float32)
    problem = make_problem(_core, "conv2d", [x], [weight, bias], **case.attributes)
    assert problem.workspace_bytes("smm") == 0


def test_direct_holds_a_chunk_of_the_image_and_the_sums_of_a_tile() -> None:
    x, weight = torch.randn(1, 64, 224, 224), torch.randn(64, 64, 3, 3)
    problem = make_problem(_core, "conv2d", [x], [weight], threads=1, padding=1)
    assert 0 < problem.workspace_bytes("direct") < x.nbytes / 16
    pointwise = make_problem(_core, "conv2d", [x], [weight[:, :, :1, :1]], threads=1)
    assert pointwise.workspace_bytes("direct") <= 128 * 32 * 4


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (1, 4, 8, 8), "must have 3 channels"),
        ({}, (8, 8), "must be \\(N, 3, H, W\\)"),
        ({}, (1, 3, 2, 8), "the kernel spans 3x3"),
        ({}, (1, 3, 0, 8), "empty image"),
        ({"stride": 0}, (1, 3, 8, 8), "at least 1"),
        ({"stride": (1, 2, 3)}, (1, 3, 8, 8), "stride must be an integer or 2 integers"),
        ({"padding": -1}, (1, 3, 8, 8), "must not be negative"),
        ({"padding": "full"}, (1, 3, 8, 8), "'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, (1, 3, 8, 8), "'same' needs stride 1"),
        ({"padding_mode": "mirror"}, (1, 3, 8, 8), "padding_mode must be"),
        ({"padding_mode": "reflect", "padding": 8}, (1, 3, 8, 8), "too large for reflect"),
        ({"groups": 5}, (1, 3, 8, 8), "groups must divide"),
        ({"output_layout": "nhwc"}, (1, 3, 8, 8), "'dense', 'channels_last' or 'blocked'"),
        ({"activation": "softmax"}, (1, 3, 8, 8), "activation must be"),
    ],
)
def test_what_does_not_fit_is_told(
    attributes: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    weights = _core.Weights.of([torch.randn(4, 3, 3, 3), None])
    with pytest.raises(ValueError, match=message):
        _core.problem("conv2d", [_core.Spec("float32", shape)], weights, attributes)


@pytest.mark.parametrize(
    "shape", [(1 << 40, 3, 8, 8), (1 << 62, 3, 8, 8), (1, 3, 1 << 33, 8), (1, 3, 1 << 30, 1 << 30)]
)
def test_huge_shapes_neither_overflow_nor_crash(shape: tuple[int, ...]) -> None:
    weights = _core.Weights.of([torch.randn(4, 3, 3, 3), None])
    try:
        problem = _core.problem("conv2d", [_core.Spec("float32", shape)], weights, {"padding": 1})
    except ValueError as error:
        assert "overflows" in str(error) or "2^31" in str(error)
    else:
        assert problem.output.shape == (shape[0], 4, *shape[2:])
        for algorithm in ALGORITHMS:
            assert problem.refusal(algorithm) or problem.workspace_bytes(algorithm) >= 0
