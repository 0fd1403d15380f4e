"""batchnorm2d: every algorithm x shapes x dtype x instruction set level."""

from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import (
    assert_same_bits,
    check_algorithms,
    make_problem,
    run_in_layout,
    run_in_place,
)

ALGORITHMS = _core.algorithms()["batchnorm2d"]
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(
    "shape",
    [
        *((2, 3, 4, 5), (1, 70, 9, 9), (3, 8, 8), (0, 3, 4, 4), (2, 3, 0, 4), (1, 2, 150, 301)),
        *((196, 70, 1, 1), (5, 3, 1, 1), (1, 16, 1, 1), (900, 129, 1, 1)),
    ],
)
def test_equals_torch(
    core: ModuleType, shape: tuple[int, ...], affine: tuple[bool, bool], dtype: torch.dtype
) -> None:
    channels = shape[-3]
    x = torch.randn(shape, dtype=dtype)
    weight, bias = (torch.randn(channels, dtype=dtype) if given else None for given in affine)
    mean, variance = torch.randn(channels, dtype=dtype), torch.rand(channels, dtype=dtype) + 0.1
    weights = [weight, bias, mean, variance]
    expected = F.batch_norm(
        x.double() if x.ndim == 4 else x.double()[None],
        *(w if w is None else w.double() for w in (mean, variance, weight, bias)),
        eps=1e-3,
    ).reshape(shape)
    check_algorithms(
        core, "batchnorm2d", [x], expected, weights, reduction=1, magnitude=40, eps=1e-3
    )


def test_larger_than_the_caches(core: ModuleType) -> None:
    x, mean, variance = torch.randn(1, 3, 1500, 1501), torch.randn(3), torch.rand(3) + 0.1
    expected = F.batch_norm(x.double(), mean.double(), variance.double())
    weights = [None, None, mean, variance]
    check_algorithms(core, "batchnorm2d", [x], expected, weights, reduction=1, magnitude=40)


@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 19, 5, 7), (32, 3, 3), (1, 40, 60, 61)])
def test_any_layout(
    core: ModuleType, shape: tuple[int, ...], layout: str, dtype: torch.dtype
) -> None:
    x, channels = torch.randn(shape, dtype=dtype), shape[-3]
    weights = [*torch.randn(3, channels, dtype=dtype), torch.rand(channels, dtype=dtype) + 0.5]
    spec = core.Spec(str(dtype).removeprefix("torch."), shape, layout)
    problem = core.problem("batchnorm2d", [spec], core.Weights.of(weights), {"eps": 1e-3}, 2)
    assert problem.output.layout == layout
    weight, bias, mean, variance = weights
    images = x if x.dim() == 4 else x[None]
    expected = F.batch_norm(images, mean, variance, weight, bias, eps=1e-3).view(shape)
    torch.testing.assert_close(run_in_layout(core, problem, "direct", x), expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_place(core: ModuleType, algorithm: str) -> None:
    x = torch.randn(2, 5, 90, 91)
    weights = [torch.randn(5), torch.randn(5), torch.randn(5), torch.rand(5) + 0.1]
    problem = make_problem(core, "batchnorm2d", [x], weights)
    assert_same_bits(run_in_place(core, problem, algorithm, x), problem.run(algorithm, x).torch())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity(core: ModuleType, algorithm: str) -> None:
    x = torch.randn(1, 3, 5, 7)
    x[0, 0, 1, 2], x[0, 1, 4, 6], x[0, 2, 0, 0] = float("nan"), float("inf"), -float("inf")
    weights = [torch.tensor([1.0, -1.0, 0.0]), None, torch.zeros(3), torch.ones(3)]
    problem = make_problem(core, "batchnorm2d", [x], weights)
    expected = F.batch_norm(x, weights[2], weights[3], weights[0])
    torch.testing.assert_close(problem.run(algorithm, x).torch(), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "count", "message"),
    [
        ((2, 3), 3, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((1, 3, 4, 4), 2, r"weight must be float32\(3,\) for input .*, not float32\(2,\)"),
    ],
)
def test_what_does_not_fit_is_told(shape: tuple[int, ...], count: int, message: str) -> None:
    weights = _core.Weights.of([torch.ones(count)] * 4)
    with pytest.raises(ValueError, match=message):
        _core.problem("batchnorm2d", [_core.Spec("float32", shape)], weights)


@pytest.mark.parametrize("weights", [[], [None, None, torch.ones(3), None], [torch.ones(3)] * 3])
def test_statistics_are_needed(weights: list[torch.Tensor | None]) -> None:
    x = _core.Spec("float32", (1, 3, 4, 4))
    with pytest.raises(ValueError, match="needs the weights"):
        _core.problem("batchnorm2d", [x], _core.Weights.of(weights))


@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
def test_only_images_are_in_other_layouts(layout: str) -> None:
    """(N, C, L) has its channels elsewhere than the image (C, H, W) that a layout is of."""
    weights = _core.Weights.of([None, None, torch.zeros(3), torch.ones(3)])
    for shape in ((2, 3, 5, 4), (2, 3, 5)):
        spec = _core.Spec("float32", shape, layout)
        if len(shape) == 4:
            assert _core.problem("batch_norm", [spec], weights).output.layout == layout
            continue
        with pytest.raises(ValueError, match=rf"batch_norm: what is {layout} must be \(N, C, H"):
            _core.problem("batch_norm", [spec], weights)
