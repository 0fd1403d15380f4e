"""Our kernels for NVIDIA's GPUs in Triton's interpreter, on the CPU, against the core's reference:
whatever hyper-parameters, tails, dtypes and layouts."""

from itertools import count
from math import prod
from typing import Any

import pytest

pytest.importorskip("triton")

from ai3.platforms.cuda import kernels, own
from ai3.platforms.platform import Algorithm, Platform
from ai3.validation.case import Case, Randomly
from ai3.validation.cases import SUITES
from bench.gpu.reference import wrong

OPS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv_transpose2d")
DTYPES = ("float32", "float64", "float16", "bfloat16")


class Interpreted(Platform):
    name = "interpreted"
    device = "cpu"

    def missing(self) -> str:
        return ""

    def settings(self) -> Any:
        return (False, False, False)

    def make_algorithms(self) -> dict[str, list[Algorithm]]:
        return own.algorithms_of(self)


PLATFORM = Interpreted()
WAYS = [(op, n) for op in OPS for n in PLATFORM.algorithms(op) if n != "winograd f4"]


def test_it_is_the_interpreter() -> None:
    assert type(kernels.by_products).__name__ == "InterpretedFunction"


def check(case: Case, name: str, dtype: str, layout: str) -> bool:
    """Whether it is right, or is refused as it may be."""
    found = wrong(PLATFORM, "cpu", case, name, dtype, layout)
    assert found or found == "" or name.startswith("winograd"), "it is refused"
    assert not found, f"{case}: {found}"
    return found == ""


MOST_TAPS = 64
"""Of kernels that the interpreter is to go through while a person waits."""


def taps(case: Case) -> int:
    kernel = case.weights[0][2:] if case.weights else case.attributes["kernel_size"]
    return prod(kernel)


def cases(op: str, name: str) -> list[tuple[str, Case, str, str]]:
    """Named ones and some at random, each in a dtype and layout such that all pairs are met."""
    suite = SUITES[op]
    numbers = count()
    drawn = {f"drawn_{i}": suite.draw(Randomly(f"{op} {name} {i}"), op) for i in range(6)}
    made = []
    for case_name, case in {**suite.named, **drawn}.items():
        if case.elements > 60_000:
            continue
        i = next(numbers)
        made.append((case_name, case, DTYPES[i % 4], ("dense", "channels_last")[i // 4 % 2]))
    return made


ALL = [(op, name, *found) for op, name in WAYS for found in cases(op, name)]


@pytest.mark.thinned(7)
@pytest.mark.parametrize(
    ("op", "name", "of", "case", "dtype", "layout"),
    [
        pytest.param(
            *(op, name, of, case, dtype, layout),
            id=f"{op}-{name}-{of}-{dtype}-{layout}",
            marks=[pytest.mark.thorough] if taps(case) > MOST_TAPS else [],
        )
        for op, name, of, case, dtype, layout in ALL
    ],
)
def test_equals_the_reference(
    op: str, name: str, of: str, case: Case, dtype: str, layout: str
) -> None:
    check(case, name, dtype, layout)


ACTIVATIONS = [
    *("relu", "relu6", "leaky_relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
    *("gelu", "gelu_tanh", "elu"),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["direct", "smm", "winograd"])
def test_epilogues(name: str, activation: str) -> None:
    shape = (1, 5, 6, 7)
    attributes = {"padding": 1, "activation": activation, "activation_parameter": 0.3}
    residual = ((1, 9, 6, 7),) if ACTIVATIONS.index(activation) % 2 else ()
    weights = ((9, 5, 3, 3), (9,))
    assert check(Case("conv2d", (shape, *residual), weights, attributes), name, "float32", "dense")


def test_winograd_takes_what_it_says() -> None:
    taken = Case("conv2d", ((2, 5, 9, 11),), ((7, 5, 3, 3), (7,)), {"padding": (2, 1)})
    for dtype in ("float32", "float64"):
        for layout in ("dense", "channels_last"):
            assert check(taken, "winograd", dtype, layout)
    back = Case(
        "conv2d_grad_input",
        ((2, 7, 9, 11),),
        ((7, 5, 3, 3),),
        {"padding": 1, "input_size": (9, 11)},
    )
    assert check(back, "winograd", "float32", "dense")
