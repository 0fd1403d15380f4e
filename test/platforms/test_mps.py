"""Apple's platform: the kernels, compiled for this processor, compute what they should."""

import re
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch

from ai3.platforms.mps import shaders
from ai3.platforms.mps import winograd as winograd_module
from ai3.platforms.mps.geometry import geometry
from ai3.validation.case import Case
from ai3.validation.convolutions import TRANSPOSED, convolution
from test.platforms import device, metal
from test.platforms.mps import OPERATIONS, PLATFORM, WAYS, Tried, algorithms, cases_of, computed

pytestmark = pytest.mark.skipif(not metal.has_compiler(), reason="needs g++")

KERNELS = {
    "direct": {"direct"},
    "smm": {"smm", "smm_narrow"},
    "implicit gemm": {"implicit_gemm"},
    "implicit precomp gemm": {"implicit_precomp_gemm"},
    "winograd f2": {
        *("winograd_filter_2", "winograd_input_2", "winograd_product", "winograd_output_2")
    },
    "winograd f4": {
        *("winograd_filter_4", "winograd_input_4", "winograd_product", "winograd_output_4")
    },
}
"""What each algorithm launches; of the gradient by the weight, "implicit gemm" is another one."""

SLOW = 1e9
"""The cost from which on a case takes seconds here."""


def trials() -> Iterator[Any]:
    """Each case, in rounds in which each algorithm gets it in another way."""
    for op in OPERATIONS:
        for i, (name, case) in enumerate(cases_of(op).items()):
            for turn in range(len(WAYS)):
                usual = turn == 0 and (op in ("conv2d", "conv_transpose2d") or i % 3 == 0)
                marks = () if usual else (pytest.mark.thorough,)
                yield pytest.param(case, i + turn, marks=marks, id=f"{op}-{name}-{turn}")


@pytest.fixture(autouse=True)
def compiled_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.mps, "compile_shader", metal.Library)
    metal.LAUNCHED.clear()
    # Autograd counts devices once: it is to find those of the tests beside these.
    with device.available():
        yield
    shaders.library.cache_clear()


@pytest.mark.parametrize(("case", "turn"), list(trials()))
def test_computes_what_the_reference_does(
    case: Case, turn: int, request: pytest.FixtureRequest
) -> None:
    everything = request.config.getoption("--all") or request.config.getoption("--rest")
    ran = []
    for i, algorithm in enumerate(algorithms(case.op)):
        tried = Tried.of(case, *WAYS[(turn + i) % len(WAYS)])
        task = tried.task()
        known = PLATFORM.algorithms(case.op)[algorithm]
        if task.refusal(algorithm) or (known.cost(task.problem) > SLOW and not everything):
            continue
        metal.LAUNCHED.clear()
        planned, result = tried.run(algorithm)
        expected = tried.expected()
        assert (result.shape, result.dtype) == (expected.shape, tried.dtype), algorithm
        if expected.numel():
            difference = (result.double() - expected).abs().max().item()
            assert difference <= tried.allowed(planned.algorithm, expected), algorithm
            check_launched(case.op, planned.algorithm, any(0 in x.shape for x in tried.inputs))
        ran.append(algorithm)
    assert "metal" in ran


def check_launched(op: str, algorithm: str, empty: bool) -> None:
    wanted = {"grad_weight"} if op == "conv2d_grad_weight" else KERNELS.get(algorithm, set())
    if algorithm == "mps" or empty:
        wanted = set()
    assert set(metal.LAUNCHED) <= wanted and bool(wanted) == bool(metal.LAUNCHED)


ACTIVATIONS = {
    "none": None,
    "relu": None,
    "relu6": None,
    "leaky_relu": 0.2,
    "silu": None,
    "hardswish": None,
    "hardsigmoid": None,
    "sigmoid": None,
    "tanh": None,
    "gelu": None,
    "gelu_tanh": None,
    "elu": 0.7,
}


@pytest.mark.parametrize("algorithm", [*KERNELS, "mps"])
@pytest.mark.parametrize("added", [False, True])
def test_sums_are_added_to_and_activated(algorithm: str, added: bool) -> None:
    plain = convolution((2, 5, 9, 7), 11, (3, 3), {"padding": 1})
    inputs = (*plain.inputs, (2, 11, 9, 7)) if added else plain.inputs
    for name, parameter in ACTIVATIONS.items():
        attributes = {**plain.attributes, "activation": name}
        if parameter is not None:
            attributes["activation_parameter"] = parameter
        for layout in ("dense", "channels_last"):
            case = replace(plain, inputs=inputs, attributes=attributes)
            tried = Tried.of(case, layout=layout)
            _, result = tried.run(algorithm)
            difference = (result - tried.expected()).abs().max().item()
            assert difference <= tried.allowed(algorithm, tried.expected()), (name, layout)


@pytest.mark.parametrize("algorithm", [name for name in KERNELS if "winograd" not in name])
def test_what_is_no_number_stays_where_it_belongs(algorithm: str) -> None:
    case = convolution((1, 3, 12, 11), 4, (3, 3), {"padding": 1, "activation": "relu"})
    tried = Tried.of(case)
    tried.inputs[0][0, 1, 4, 5] = torch.nan
    tried.inputs[0][0, 2, 9, 9] = -torch.inf
    _, result = tried.run(algorithm)
    assert torch.equal(result.isnan(), tried.expected().isnan())
    assert torch.equal(result.isinf(), tried.expected().isinf())


def test_many_images_are_done_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Tried.of(convolution((5, 3, 9, 8), 4, (3, 3), {"padding": 1}))
    _, whole = tried.run("winograd f4")
    monkeypatch.setattr(winograd_module, "MOST_WORKSPACE", 2 * 4 * 36 * 3 * 2 * (3 + 4))
    metal.LAUNCHED.clear()
    planned, result = tried.run("winograd f4")
    assert planned.workspace_bytes == winograd_module.MOST_WORKSPACE
    assert metal.LAUNCHED.count("winograd_product") == 3
    assert torch.equal(result, whole)


@pytest.mark.parametrize("algorithm", [*KERNELS, "mps"])
def test_changed_weights_are_packed_again(algorithm: str) -> None:
    tried = Tried.of(convolution((1, 4, 6, 6), 5, (3, 3)))
    planned, _ = tried.run(algorithm)
    weight = tried.weights[0]
    assert weight is not None
    weight.mul_(-2)
    if planned.refresh is not None:
        planned.refresh()
    result, expected = computed(planned, tried.inputs), tried.expected()
    assert (result - expected).abs().max() <= tried.allowed(algorithm, expected)


@pytest.mark.parametrize(
    ("case", "algorithm", "reason"),
    [
        (convolution((1, 2, 9, 9), 3, (5, 5)), "winograd", "for kernels of 3x3, not 5x5"),
        (convolution((1, 2, 9, 9), 3, (3, 3), {"stride": 2}), "winograd f4", "stride and dilation"),
        (TRANSPOSED["upsampling"], "direct", "of stride 1 alone"),
        (TRANSPOSED["upsampling"], "smm", "of stride 1 alone"),
        (convolution((1, 2, 9, 9), 3, (3, 3)), "winograd f6", "it runs on cpu, not on mps"),
    ],
)
def test_refusals(case: Case, algorithm: str, reason: str) -> None:
    assert reason in Tried.of(case).task().refusal(algorithm)


def test_other_types_and_more_elements_than_an_int_counts_are_refused() -> None:
    case = convolution((1, 2, 9, 9), 3, (3, 3))
    for algorithm in (*KERNELS, "metal"):
        assert "not bfloat16" in Tried.of(case, "bfloat16").task().refusal(algorithm)
    task = Tried.of(case).task()
    large = replace(task.inputs[0], shape=(2, 2, 1 << 15, 1 << 15))
    of = type(task)(PLATFORM, "conv2d", [large], task.weights, {})
    for algorithm in (*KERNELS, "metal"):
        assert "2^31 - 1" in of.refusal(algorithm), algorithm


@pytest.mark.parametrize("op", OPERATIONS)
def test_default_and_metal_are_the_cheapest(op: str) -> None:
    for name, case in list(cases_of(op).items())[::7]:
        task = Tried.of(case).task()
        if not prod(case.inputs[0]):
            continue
        ranking = dict(task.ranking())
        assert {"mps", "metal"} <= ranking.keys(), name
        own = min(cost for each, cost in ranking.items() if each != "mps")
        assert ranking["metal"] == own
        assert task.resolve("guess") == task.resolve("default") != "guess", name


def test_default_prefers_our_kernels_where_channels_are_grouped() -> None:
    grouped = convolution((8, 64, 56, 56), 64, (3, 3), {"groups": 64, "padding": 1})
    plain = convolution((8, 64, 56, 56), 64, (1, 1))
    for case, wanted in ((grouped, "smm"), (plain, "mps")):
        assert Tried.of(case).task().resolve("default") == wanted


# The sources


@pytest.mark.parametrize("dtype", shaders.SCALARS)
def test_buffers_are_numbered_in_order(dtype: str) -> None:
    for name, text in metal.KERNEL.findall(shaders.source(dtype)):
        kinds = [
            index for _, _, attribute, index in metal.parameters(text) if "buffer" in attribute
        ]
        assert kinds == [str(i) for i in range(len(kinds))], name


def test_memory_of_threadgroups_is_at_most_32_kilobytes() -> None:
    source = shaders.source("float32")
    constants = dict(re.findall(r"^constant constexpr int (\w+) = (\d+);", source, re.M))
    for body in re.split(r"^kernel void ", source, flags=re.M)[1:]:
        total = 0
        for extents in re.findall(r"SHARED \w+ \w+((?:\[[^\]]+\])+);", body):
            sizes = re.findall(r"\[([^\]]+)\]", extents)
            total += 4 * prod(eval(size, {"__builtins__": {}}, _ints(constants)) for size in sizes)
        assert total <= 32 << 10


def _ints(constants: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in constants.items()}


def test_source_keeps_to_what_metal_has() -> None:
    words = set(re.findall(r"\w+", re.sub(r"//.*", "", shaders.source("float16"))))
    assert not words & {"double", "long", "std", "new", "delete", "virtual", "goto", "try", "throw"}
    assert not words & {"static_cast", "dynamic_cast", "thread_local", "main", "nullptr"}


def test_address_spaces_are_kept_apart() -> None:
    if not metal.checks_address_spaces():
        pytest.skip("needs clang++")
    metal.check_address_spaces(shaders.source("float32"))
    wrong = "inline float first(device const float *p) { return *p; }\nkernel void k() {\n"
    wrong += "    SHARED float a[2];\n    first(a);\n}\n"
    with pytest.raises(ValueError, match="no matching function"):
        metal.check_address_spaces(wrong)


def test_a_missing_barrier_gives_wrong_numbers() -> None:
    source = shaders.source("float32")
    barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);\n        multiply"
    assert barrier in source
    library = metal.Library(source.replace(barrier, "multiply"))
    tried = Tried.of(convolution((1, 40, 9, 9), 70, (3, 3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shaders, "library", lambda dtype: library)
        _, result = tried.run("implicit gemm")
    expected = tried.expected()
    assert not (result - expected).abs().max() <= tried.allowed("implicit gemm", expected)


def test_geometry_of_a_transposed_convolution_is_that_of_its_flipped_kernel() -> None:
    task = Tried.of(TRANSPOSED["dilated"]).task()
    g = geometry(task.problem)
    assert (g.IC, g.OC, g.pad_top, g.pad_left, g.flipped) == (3, 2, 3, 2, True)
