"""Programs of single elements as kernels of Triton's, in its interpreter, against torch's functions
one by one, all that the kernels have."""

from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

import ai3
from ai3 import _core
from ai3.platforms.cuda import elementwise
from ai3.platforms.cuda.launch import DTYPES
from ai3.torch.programs import run_program
from test.platforms import stand_in
from test.platforms.test_functions import OF_NUMBERS, VALUES
from test.platforms.test_triton import PLATFORM


def run(text: str, inputs: Any, output: Any = None) -> Any:
    return elementwise.run(PLATFORM, text, inputs, output)


def test_all_functions_are_the_cores() -> None:
    assert _core.pointwise_functions().keys() >= elementwise.FUNCTIONS
    assert set(DTYPES) >= {str(x.dtype).removeprefix("torch.") for x in VALUES}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", sorted(elementwise.FUNCTIONS))
def test_equals_torchs_functions(name: str) -> None:
    operands = _core.pointwise_functions()[name]
    tried = 0
    for i, x in enumerate(VALUES):
        seconds = ["2.0", "0.5"] if name == "pow" else ["x1", "2", "0.5"]
        for second in seconds if operands > 1 else [""]:
            y = VALUES[(i + 1) % len(VALUES)]
            if torch.bool in (x.dtype, y.dtype) and name in OF_NUMBERS:
                continue
            program = f"{name}({', '.join(['x0', second, 'x1'][:operands])})"
            try:
                expected = run_program(program, [x, y])
            except (RuntimeError, TypeError):
                continue
            actual = run(program, [x, y])
            if actual is None:
                continue
            assert actual.dtype is expected.dtype, program
            torch.testing.assert_close(
                actual, expected, rtol=1e-5, atol=1e-6, equal_nan=True, msg=program
            )
            tried += 1
    assert tried > 0


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", sorted(DTYPES))
def test_conversions(name: str) -> None:
    for x in VALUES:
        finite = x[:5] if name in ("uint8", "int8", "int16") else x
        if name == "uint8" and x.dtype is not torch.bool:
            finite = finite.abs()
        program = f"{name}(x0)"
        torch.testing.assert_close(run(program, [finite]), run_program(program, [finite]))


PROGRAM = "mul(x0, x1); sigmoid(t0); add(t1, 1.5); where(x2, t2, x0)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
        ((2, 3, 4, 5), (3, 1, 1), ()),
        ((4, 1), (1, 700), (4, 700)),
        ((1, 1), (1,), (1, 1)),
        ((2, 1, 4), (1, 3, 4), (2, 3, 1)),
    ],
)
def test_shapes_that_are_broadcast(dtype: torch.dtype, shapes: Any) -> None:
    x, y = (torch.randn(shape).to(dtype) for shape in shapes[:2])
    inputs = [x, y, torch.randn(shapes[2]) > 0]
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 4e-2}.get(dtype, 1e-6)
    expected = run_program(PROGRAM, inputs)
    found = run(PROGRAM, inputs)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_layouts_are_torchs() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    views = [torch.randn(2, 6, 4, 5)[:, ::2], torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0)]
    for inputs in ([x], [x, views[0]], views, views[::-1], [x[1:], x[:1]]):
        program = "add(x0, x1); relu(t0)" if len(inputs) > 1 else "relu(x0)"
        expected = run_program(program, inputs)
        found = run(program, inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        if len(inputs) == 1:
            assert found.stride() == expected.stride()


def test_the_result_may_be_in_an_inputs_memory() -> None:
    x, y = torch.randn(3, 700), torch.randn(700)
    expected = torch.nn.functional.silu(x + y)
    assert run("add(x0, x1); silu(t0)", [x, y], x) is x
    torch.testing.assert_close(x, expected)


def test_what_it_has_no_kernel_for_is_told() -> None:
    x = torch.ones(3)
    for program, inputs in (
        ("atan2(x0, x0)", [x]),
        ("mul(x0, x0)", [torch.ones(0)]),
        ("floor_divide(x0, 2)", [x]),
        ("pow(x0, x0)", [x]),
        ("mul(x0, x0)", [x.to(torch.complex64)]),
    ):
        assert run(program, inputs) is None


def test_a_model_runs_its_programs_by_them() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.silu(self.conv(x))
            return y * torch.sigmoid(y.mean((2, 3), keepdim=True)) + 0.5

    net, x = Net(), torch.randn(2, 3, 6, 5)
    expected = net(x).detach()
    ran: list[str] = []
    before = elementwise.run

    def noted(platform: Any, text: str, *rest: Any) -> Any:
        found = before(platform, text, *rest)
        ran.append(text if found is not None else "none")
        return found

    with stand_in.available() as cuda, pytest.MonkeyPatch.context() as patch:
        cuda.by_kernels = True
        patch.setattr(elementwise, "run", noted)
        model = ai3.swap_backend(net.to("mirror"), {"conv2d": "gemm"})
        found = model(x.to("mirror")).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert "silu(x0)" in ran and any("sigmoid" in text for text in ran) and "none" not in ran
