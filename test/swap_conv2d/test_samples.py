"""torch's own samples for nn.functional.conv2d, through every algorithm."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import UnsupportedAlgorithmError
from ai3.ops import ON_CPU
from test.unit.test_conv2d import error_factor

pytest.importorskip("expecttest")  # of torch's own test tools
from torch.testing._internal.common_methods_invocations import op_db

from test.compare import in_own_dtype

(OP,) = (op for op in op_db if op.name == "nn.functional.conv2d")
ALGORITHMS = in_own_dtype(ON_CPU["conv2d"])


def module_of(weight: Tensor, bias: Tensor | None, options: dict[str, Any]) -> nn.Conv2d:
    groups = options.get("groups", 1)
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        bias=bias is not None,
        dtype=weight.dtype,
        **options,
    )
    conv.weight.data = weight.detach()
    if bias is not None and conv.bias is not None:
        conv.bias.data = bias.detach()
    return conv


def split(sample: Any) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
    names = ("bias", "stride", "padding", "dilation", "groups")
    options = dict(zip(names, sample.args[1:], strict=False)) | sample.kwargs
    return sample.input, sample.args[0], options.pop("bias", None), options


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_samples_are_right_or_refused(algorithm: str, dtype: torch.dtype) -> None:
    right = 0
    for sample in OP.sample_inputs("cpu", dtype, requires_grad=True):
        x, weight, bias, options = split(sample)
        conv = module_of(weight, bias, options)
        own = copy.deepcopy(conv)
        try:
            ai3.swap_conv2d(own, algorithm)
        except UnsupportedAlgorithmError as refused:
            assert algorithm == "fft" or "winograd" in algorithm
            assert refused.refusals[0][2]
            continue
        epsilon = torch.finfo(dtype).eps * 50 * error_factor(algorithm)
        expected, actual = conv(x), own(x)
        torch.testing.assert_close(actual, expected, rtol=epsilon, atol=epsilon * 100)
        grad = torch.randn_like(expected)
        wanted = [x, *conv.parameters()]
        theirs = torch.autograd.grad(expected, wanted, grad)
        ours = torch.autograd.grad(actual, [x, *own.parameters()], grad)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=epsilon, atol=epsilon * 200)
        right += 1
    assert right > 3 or algorithm in ("winograd f6", "winograd f4", "winograd f2", "winograd")


def test_error_samples_raise() -> None:
    count = 0
    for error in OP.error_inputs("cpu"):
        sample = error.sample_input
        with pytest.raises(error.error_type):
            OP.op(sample.input, *sample.args, **sample.kwargs)
        x, weight, bias, options = split(sample)
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            conv = module_of(weight, bias, options)
            ai3.swap_conv2d(conv)
            conv(x)
        count += 1
    assert count
