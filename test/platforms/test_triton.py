"""Our kernels for NVIDIA's GPUs in Triton's interpreter, on the CPU, against the core's reference:
whatever hyper-parameters, tails, dtypes and layouts."""

from math import ceil, prod
from typing import Any

import pytest

pytest.importorskip("triton")

from ai3.platforms.cuda import kernels, own
from ai3.platforms.platform import Algorithm, Platform
from ai3.validation.case import Case, Randomly
from ai3.validation.cases import SUITES
from ai3.validation.convolutions import pair
from bench.gpu.reference import wrong

OPS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv_transpose2d")
LAYOUTS = ("dense", "channels_last")
DTYPES = ("float32", "float64", "float16", "bfloat16")


class Interpreted(Platform):
    name = "interpreted"
    device = "cpu"
    driver = None

    def missing(self) -> str:
        return ""

    def settings(self) -> Any:
        return (False, False, False)

    def current_device(self) -> int:
        return 0

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


def steps(case: Case, name: str) -> int:
    """About how many steps of kernels' loops the interpreter takes for it."""
    held = case.weights[0] if case.weights else None
    if held is None:  # the gradient by the weight
        (n, c, *_), (_, k, oh, ow) = ((1,) * (4 - len(x)) + x for x in case.inputs)
        kernel = case.attributes["kernel_size"]
        groups = case.attributes.get("groups", 1)
        tiles = groups * ceil(k / groups / 32) * ceil(c / groups * prod(pair(kernel)) / 32)
        return tiles * ceil(n * oh * ow / 32)
    pixels = max(prod(x) // x[-3] for x in case.inputs)
    groups = case.attributes.get("groups", 1)
    terms, made = prod(held[1:]), ceil(held[0] / groups)
    if name == "winograd":  # a program for each channel of some tiles
        return ceil(pixels / 1024) * (held[0] + held[1]) * 4
    if name == "smm":
        return ceil(pixels / 128) * ceil(made / 16) * groups * terms
    return ceil(pixels / 64) * ceil(made / 64) * groups * ceil(terms / 16)


def cases(op: str, name: str) -> list[Any]:
    """Named ones and some at random, each in a dtype and layout such that all pairs are met."""
    suite = SUITES[op]
    drawn = {f"drawn_{i}": suite.draw(Randomly(f"{op} {name} {i}"), op) for i in range(6)}
    named = {k: case for k, case in {**suite.named, **drawn}.items() if case.elements < 60_000}
    made = []
    for i, (of, case) in enumerate(named.items()):
        # Without --all one in four of those that are short.
        quick = i % 4 == len(made) // 4 % 4 and steps(case, name) <= 100
        made.append(
            pytest.param(
                *(op, name, case, DTYPES[i % 3 if i % 5 else 3], LAYOUTS[i // 2 % 2]),
                id=f"{op}-{name}-{of}",
                marks=() if quick else pytest.mark.thorough,
            )
        )
    return made


@pytest.mark.parametrize(
    ("op", "name", "case", "dtype", "layout"),
    [case for op, name in WAYS for case in cases(op, name)],
)
def test_equals_the_reference(op: str, name: str, case: Case, dtype: str, layout: str) -> None:
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
    for dtype in DTYPES:
        for layout in ("dense", "channels_last"):
            assert check(taken, "winograd", dtype, layout)
    back = Case(
        "conv2d_grad_input",
        ((2, 7, 9, 11),),
        ((7, 5, 3, 3),),
        {"padding": 1, "input_size": (9, 11)},
    )
    assert check(back, "winograd", "float32", "dense")
    by_weight = Case(
        "conv2d_grad_weight",
        ((2, 5, 9, 11), (2, 7, 10, 11)),
        (),
        {"padding": (2, 1, 0, 2), "kernel_size": (3, 3)},
    )
    for dtype in DTYPES:
        for layout in ("dense", "channels_last"):
            assert check(by_weight, "winograd", dtype, layout)
