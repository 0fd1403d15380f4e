"""The derivatives of conv2d by input, weight and bias: every algorithm over conv2d's problems."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ai3 import _core
from ai3.ops import ON_CPU
from ai3.validation.convolutions import MORE_CONVOLUTIONS
from test.unit.checks import assert_within, make_problem
from test.unit.test_conv2d import CASES, DTYPES, Case, error_factor, problems

GRAD_INPUT = ON_CPU["conv2d_grad_input"]
GRAD_WEIGHT = ON_CPU["conv2d_grad_weight"]

ALL_CASES = CASES | {name: Case.of(case) for name, case in MORE_CONVOLUTIONS.items()}


def wide(case: Case, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The gradients by input, weight and bias as torch has them in float64."""
    x, weight, grad = (tensor.double() for tensor in tensors)
    x.requires_grad_()
    module = torch.nn.Conv2d(
        case.input[-3], case.oc, case.kernel, dtype=torch.float64, **case.attributes
    )
    module.weight.data = weight
    result = module(x)
    assert module.bias is not None
    return torch.autograd.grad(result, (x, module.weight, module.bias), grad)


def gradient_of(case: Case, x: Tensor, weight: Tensor) -> Tensor:
    bias = weight.new_zeros(case.oc) if case.bias else None
    return torch.randn_like(case.by_torch(x, weight, bias).to(x.dtype))


def length(*extents: int) -> int:
    product = 1
    for extent in extents:
        product *= extent
    return product


def check_input(case: Case, algorithm: str, dtype: torch.dtype, core: ModuleType = _core) -> None:
    x, weight, _ = case.tensors(dtype)
    grad = gradient_of(case, x, weight)
    attributes = {**case.attributes, "input_size": case.input[-2:]}
    problem = make_problem(core, "conv2d_grad_input", [grad], [weight], **attributes)
    assert problem.output.shape == case.input
    if problem.refusal(algorithm):
        assert "winograd" in algorithm or algorithm == "fft"
        return
    expected = wide(case, x, weight, grad)[0]
    actual = problem.run(algorithm, grad).torch()
    # Padding shows an image's element up to once for each of the kernel's.
    terms = case.oc * length(*case.kernel) * 4
    magnitude = 8 * error_factor(problem.resolve(algorithm))
    assert_within(actual, expected, reduction=terms, magnitude=magnitude)


def check_weight(case: Case, algorithm: str, dtype: torch.dtype, core: ModuleType = _core) -> None:
    x, weight, _ = case.tensors(dtype)
    grad = gradient_of(case, x, weight)
    attributes = {**case.attributes, "kernel_size": case.kernel}
    problem = make_problem(core, "conv2d_grad_weight", [x, grad], **attributes)
    assert problem.output.shape == tuple(weight.shape)
    if problem.refusal(algorithm):
        assert "winograd" in algorithm or algorithm == "fft"
        return
    expected = wide(case, x, weight, grad)[1]
    actual = problem.run(algorithm, x, grad).torch()
    terms = max(1, grad.numel() // case.oc)
    magnitude = (4 + terms**0.5 / 8) * error_factor(problem.resolve(algorithm))
    assert_within(actual, expected, reduction=terms, magnitude=magnitude)


@pytest.mark.thinned(12)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ALL_CASES)
@pytest.mark.parametrize("algorithm", GRAD_INPUT)
def test_by_input(core: ModuleType, algorithm: str, name: str, dtype: torch.dtype) -> None:
    check_input(ALL_CASES[name], algorithm, dtype, core)


@pytest.mark.thinned(12)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ALL_CASES)
@pytest.mark.parametrize("algorithm", GRAD_WEIGHT)
def test_by_weight(core: ModuleType, algorithm: str, name: str, dtype: torch.dtype) -> None:
    check_weight(ALL_CASES[name], algorithm, dtype, core)


def test_images_beyond_the_cache(core: ModuleType) -> None:
    case = Case((5, 40, 100, 100), 2, (3, 3), {"padding": 1})
    check_weight(case, "direct", torch.float32, core)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ALL_CASES)
def test_references(name: str, dtype: torch.dtype) -> None:
    case = ALL_CASES[name]
    x, weight, _ = case.tensors(dtype)
    grad = gradient_of(case, x, weight)
    by_input, by_weight, by_bias = wide(case, x, weight, grad)
    for op, inputs, weights, more, expected in (
        ("input", [grad], [weight], {"input_size": case.input[-2:]}, by_input),
        ("weight", [x, grad], [], {"kernel_size": case.kernel}, by_weight),
        ("bias", [grad], [], {}, by_bias),
    ):
        attributes = {} if op == "bias" else {**case.attributes, **more}
        problem = make_problem(_core, f"conv2d_grad_{op}", inputs, weights, **attributes)
        actual = problem.reference(*inputs).torch()
        magnitude = 20 + 2 * expected.abs().max().item() if expected.numel() else 1
        # The references add up in float64: only there does their rounding grow with the sum.
        reduction = grad.numel() if dtype == torch.float64 else 1
        assert_within(actual, expected, reduction=reduction, magnitude=magnitude)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 7), (3, 1, 1), (0, 4, 3, 3), (1, 2, 130, 400), (9, 17, 1, 1)], ids=str
)
def test_by_bias(core: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    grad = torch.randn(shape, dtype=dtype)
    problem = make_problem(core, "conv2d_grad_bias", [grad])
    expected = grad.double().sum((-1, -2) if grad.dim() == 3 else (0, 2, 3))
    actual = problem.run("direct", grad).torch()
    assert_within(actual, expected, reduction=grad[0].numel() if grad.numel() else 1, magnitude=4)


@settings(max_examples=30, deadline=None)
@given(problems(), st.sampled_from(DTYPES))
def test_any_problem(case: Case, dtype: torch.dtype) -> None:
    for algorithm in GRAD_INPUT:
        check_input(case, algorithm, dtype)
    for algorithm in GRAD_WEIGHT:
        check_weight(case, algorithm, dtype)


@pytest.mark.parametrize("name", ["3x3", "stride_2", "depthwise", "deep_and_narrow", "1x1"])
def test_threads_do_not_change_the_result(name: str) -> None:
    case = ALL_CASES[name]
    x, weight, _ = case.tensors(torch.float32)
    grad = gradient_of(case, x, weight)
    for op, inputs, weights, more in (
        ("input", [grad], [weight], {"input_size": case.input[-2:]}),
        ("weight", [x, grad], [], {"kernel_size": case.kernel}),
    ):
        for algorithm in ON_CPU[f"conv2d_grad_{op}"]:
            one, three = (
                make_problem(
                    _core, f"conv2d_grad_{op}", inputs, weights, n, **case.attributes, **more
                )
                for n in (1, 3)
            )
            if one.refusal(algorithm) or algorithm == "default":
                continue
            expected = one.run(algorithm, *inputs).torch()
            assert torch.equal(three.run(algorithm, *inputs).torch(), expected), (op, algorithm)


def test_nan_reaches_what_reads_it_and_nothing_else() -> None:
    x = torch.randn(1, 3, 9, 40)
    grad = torch.randn(1, 20, 9, 40)
    x[0, 1, 4, 7] = float("nan")
    problem = make_problem(
        _core, "conv2d_grad_weight", [x, grad], kernel_size=(3, 3), padding=(1, 1)
    )
    for algorithm in GRAD_WEIGHT:
        isnan = problem.run(algorithm, x, grad).torch().isnan()
        assert isnan[:, 1].all() and not isnan[:, [0, 2]].any()


def test_memory_around_the_arrays_is_not_read() -> None:
    room = torch.full((3, 4, 10, 11), float("nan"))
    room[1] = torch.randn(4, 10, 11)
    space = torch.full((3, 17, 10, 11), float("nan"))
    space[1] = torch.randn(17, 10, 11)
    weight = torch.randn(17, 4, 3, 3)
    by_weight = make_problem(
        _core, "conv2d_grad_weight", [room[1], space[1]], kernel_size=(3, 3), padding=(1, 1)
    )
    by_input = make_problem(
        _core, "conv2d_grad_input", [space[1]], [weight], input_size=(10, 11), padding=(1, 1)
    )
    for algorithm in GRAD_WEIGHT:
        assert by_weight.run(algorithm, room[1], space[1]).torch().isfinite().all()
    for algorithm in GRAD_INPUT:
        assert by_input.run(algorithm, space[1]).torch().isfinite().all()


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "message"),
    [
        ("weight", [(1, 3, 8, 8), (1, 4, 8, 8)], {"kernel_size": (3, 3)}, "output is .1, 4, 6, 6."),
        ("weight", [(1, 3, 8, 8), (1, 4, 8, 8)], {}, "needs kernel_size"),
        ("weight", [(1, 3, 8, 8)], {"kernel_size": 3}, "takes two inputs"),
        ("weight", [(3, 8), (4, 8)], {"kernel_size": 3}, "3 or 4 dimensions"),
        ("weight", [(3, 8, 8), (1, 4, 6, 6)], {"kernel_size": 3}, "the output is"),
        ("weight", [(3, 8, 8), (4, 6, 6)], {"kernel_size": 3, "groups": 2}, "groups must divide"),
        ("input", [(1, 4, 8, 8)], {"input_size": (8, 8)}, "the output is"),
        ("input", [(1, 4, 8, 8)], {}, "needs input_size"),
        ("input", [(8, 8)], {"input_size": 8}, "grad must be"),
        ("bias", [(8, 8)], {}, "takes one input"),
    ],
)
def test_what_does_not_fit_is_refused(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any], message: str
) -> None:
    weights = _core.Weights.of([torch.randn(4, 3, 3, 3)] if op == "input" else [])
    specs = [_core.Spec("float32", shape) for shape in shapes]
    with pytest.raises(ValueError, match=f"conv2d_grad_{op}: .*{message}"):
        _core.problem(f"conv2d_grad_{op}", specs, weights, attributes)
