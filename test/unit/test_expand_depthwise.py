"""expand_depthwise: shapes that are cut into several parts, and those that are not."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ai3 import _core
from test.unit.checks import assert_same_bits, assert_within, make_problem, run_in_layout

DTYPES = [torch.float32, torch.float64]


def check(
    core: ModuleType,
    shape: tuple[int, int, int, int],
    channels: int,
    kernel: tuple[int, int],
    dtype: torch.dtype,
    *,
    bias: bool = True,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> None:
    x = torch.randn(shape, dtype=dtype)
    expand = torch.randn(channels, shape[1], 1, 1, dtype=dtype) / shape[1] ** 0.5
    depthwise = torch.randn(channels, 1, *kernel, dtype=dtype)
    biases = [torch.randn(channels, dtype=dtype) if bias else None for _ in range(2)]
    first, second = (b if b is None else b.double() for b in biases)
    expanded = F.relu(F.conv2d(x.double(), expand.double(), first))
    taps = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = F.conv2d(expanded, depthwise.double(), second, groups=channels, **taps)
    weights = core.Weights.of([expand, biases[0], depthwise, biases[1]])
    attributes = {
        **{name: list(value) for name, value in taps.items()},
        "expand_activation": "relu",
        "activation": "hardswish",
    }
    spec = core.Spec(str(dtype).removeprefix("torch."), shape, "blocked")
    one, two = (
        core.problem("expand_depthwise", [spec], weights, attributes, threads) for threads in (1, 2)
    )
    assert one.output.shape == tuple(expected.shape)
    assert one.output.layout == "blocked"
    actual = run_in_layout(core, one, "direct", x)
    assert_same_bits(run_in_layout(core, two, "direct", x), actual)
    terms = (shape[1] + 1) * (kernel[0] * kernel[1] + 1)
    assert_within(actual, F.hardswish(expected), reduction=terms, magnitude=20)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "options"),
    [
        ((1, 16, 112, 112), 64, (3, 3), {"stride": (2, 2), "padding": (1, 1)}),
        ((2, 16, 112, 112), 40, (3, 3), {"padding": (1, 1)}),
        ((1, 24, 56, 56), 72, (5, 5), {"stride": (2, 2), "padding": (2, 2)}),
        ((3, 40, 28, 28), 100, (5, 5), {"padding": (2, 2)}),
        ((1, 3, 90, 300), 17, (3, 5), {"padding": (1, 2), "stride": (3, 1)}),
        ((1, 70, 61, 40), 33, (3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
        ((1, 5, 200, 70), 48, (1, 1), {"bias": False}),
        ((1, 9, 7, 5), 3, (7, 5), {"bias": False}),
        ((2, 1, 4, 4), 1, (2, 2), {"stride": (3, 3), "padding": (1, 1)}),
        ((1, 33, 200, 33), 20, (9, 3), {"stride": (1, 2), "padding": (8, 0)}),
        ((0, 16, 8, 8), 20, (3, 3), {}),
    ],
)
def test_equals_torch(
    core: ModuleType,
    shape: tuple[int, int, int, int],
    channels: int,
    kernel: tuple[int, int],
    options: dict[str, tuple[int, int]],
    dtype: torch.dtype,
) -> None:
    check(core, shape, channels, kernel, dtype, **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_problem(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, dilation = pair(1, 4), pair(1, 2)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    height, width = (max(r + 1, n) for r, n in zip(reach, pair(1, 40), strict=True))
    shape = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 40)), height, width)
    padding = (data.draw(st.integers(0, reach[0])), data.draw(st.integers(0, reach[1])))
    channels = data.draw(st.integers(1, 70))
    dtype = data.draw(st.sampled_from(DTYPES))
    options = {"stride": pair(1, 3), "padding": padding, "dilation": dilation}
    check(_core, shape, channels, kernel, dtype, **options)


def test_reference_equals_torch() -> None:
    x = torch.randn(2, 3, 9, 8)
    weights = [torch.randn(5, 3, 1, 1), torch.randn(5), torch.randn(5, 1, 3, 3), None]
    problem = make_problem(
        _core, "expand_depthwise", [x], weights, padding=[1, 1], expand_activation="relu6"
    )
    expanded = F.relu6(F.conv2d(x, weights[0], weights[1]))  # type: ignore[arg-type]
    expected = F.conv2d(expanded, weights[2], padding=1, groups=5)  # type: ignore[arg-type]
    torch.testing.assert_close(problem.reference(x).torch(), expected, rtol=1e-4, atol=1e-4)


E, D = torch.zeros(5, 3, 1, 1), torch.zeros(5, 1, 3, 3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([E, None, D], "takes two weights, each with a bias or none"),
        ([torch.zeros(5, 3, 3, 3), None, D, None], "the first kernel must be 1x1"),
        ([E, None, torch.zeros(4, 1, 3, 3), None], r"must be \(5, 1, KH, KW\), not \(4, 1, 3, 3\)"),
        ([E, torch.zeros(4), D, None], r"bias must be \(5,\)"),
        ([torch.zeros(5, 2, 1, 1), None, D, None], "input must have 2 channels"),
        ([E, None, torch.zeros(5, 1, 30, 3), None], "the kernel spans 30x3"),
    ],
)
def test_what_does_not_fit_is_told(weights: list[torch.Tensor | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.problem(
            "expand_depthwise", [_core.Spec("float32", (1, 3, 8, 8))], _core.Weights.of(weights)
        )


def test_what_is_refused() -> None:
    weights = _core.Weights.of([E, None, D, None])

    def refusal(layout: str, padding: int) -> str:
        spec = _core.Spec("float32", (1, 3, 8, 8), layout)
        attributes = {"padding": [padding, 0]}
        return str(_core.problem("expand_depthwise", [spec], weights, attributes).refusal("direct"))

    assert not refusal("blocked", 2)
    assert refusal("dense", 2) == "its images must be in blocks"
    assert "nothing but padding" in refusal("blocked", 3)
