"""interleave: along any dimension, of images in blocks too, and the parts of it."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ai3 import _core
from test.unit.checks import assert_same_bits, make_problem, run_in_layout

DTYPES = [torch.float32, torch.float64]


def check(
    core: ModuleType,
    shape: tuple[int, ...],
    count: int,
    dim: int,
    start: int,
    end: int,
    dtype: torch.dtype,
    layout: str = "dense",
) -> None:
    inputs = [torch.randn(shape, dtype=dtype) for _ in range(count)]
    inputs[0].flatten()[:1] = float("nan")
    expected = torch.stack(inputs, dim + 1).flatten(dim, dim + 1).narrow(dim, start, end - start)
    spec = core.Spec(str(dtype).removeprefix("torch."), shape, layout)
    attributes = {"dim": dim, "start": start, "end": end}
    for threads in (1, 2):
        problem = core.problem("interleave", [spec] * count, None, attributes, threads)
        assert problem.output.shape == tuple(expected.shape)
        assert problem.output.layout == layout
        if layout == "dense":
            assert_same_bits(problem.reference(*inputs).torch(), expected)
            assert_same_bits(problem.run("direct", *inputs).torch(), expected)
        else:
            assert_same_bits(run_in_layout(core, problem, "direct", *inputs), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        ((2, 5, 3, 4), 2, 1, 0, 10),
        ((3, 70), 4, 0, 1, 11),
        ((3, 700), 2, 1, 5, 1390),
        ((2, 3, 400, 90), 3, 1, 2, 8),
        ((7,), 1, 0, 0, 7),
        ((2, 4, 0), 2, 1, 0, 8),
        ((2, 4, 3), 2, 1, 3, 3),
    ],
)
def test_equals_torch(
    core: ModuleType, case: tuple[tuple[int, ...], int, int, int, int], dtype: torch.dtype
) -> None:
    """Cases are (shape, number of inputs, dim, start, end)."""
    check(core, *case, dtype)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("pixels", [(1, 1), (14, 15), (70, 60)])
@pytest.mark.parametrize("channels", [1, 8, 16, 17, 61, 122])
def test_images_in_blocks(
    core: ModuleType, channels: int, pixels: tuple[int, int], count: int, dtype: torch.dtype
) -> None:
    whole, shape = count * channels, (2, channels, *pixels)
    for start, end in {(0, whole), (0, (whole + 1) // 2), (whole // 2, whole), (whole // 3, whole)}:
        check(core, shape, count, 1, start, end, dtype, "blocked")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_problem(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, n) for n in (3, 70, 9, 9)]))
    count, layout = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["dense", "blocked"]))
    dim = 1 if layout == "blocked" else data.draw(st.integers(0, 3))
    start = data.draw(st.integers(0, count * shape[dim] - 1))
    end = data.draw(st.integers(start + 1, count * shape[dim]))
    check(_core, shape, count, dim, start, end, data.draw(st.sampled_from(DTYPES)), layout)


def test_what_does_not_fit_is_told() -> None:
    def told(match: str, *specs: _core.Spec, **attributes: int) -> None:
        with pytest.raises(ValueError, match=f"interleave: .*{match}"):
            _core.problem("interleave", list(specs), None, attributes)

    x, image = _core.Spec("float32", (2, 3)), (1, 4, 2, 2)
    told("takes inputs and no weights")
    told(
        r"must be alike, not float32\(2, 3\) and float32\(3, 3\)", x, _core.Spec("float32", (3, 3))
    )
    told("must be alike", x, _core.Spec("float64", (2, 3)))
    told("dim must be from -2 to 1, not 2", x, x, dim=2)
    told("within 0 and 6, not 2 and 7", x, x, dim=1, start=2, end=7)
    told("within 0 and 4, not 3 and 2", x, x, start=3, end=2)
    told("must be dense .* along dimension 2", _core.Spec("float32", image, "blocked"), dim=2)
    told("must be dense", _core.Spec("float32", image, "channels_last"), dim=1)


def test_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="takes inputs and no weights"):
        make_problem(_core, "interleave", [torch.ones(2)], [torch.ones(2)])
