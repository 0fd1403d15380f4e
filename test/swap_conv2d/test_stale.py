"""A packed copy of a weight is never used after the weight has changed, however that was done."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.ops import ON_CPU as ALGORITHMS
from test.compare import in_own_dtype

BUILT_IN = [name for name in in_own_dtype(ALGORITHMS["conv2d"]) if name != "custom"]
WRITES: dict[str, Callable[[Tensor, int, float], None]] = {
    "data": lambda tensor, i, value: tensor.data.view(-1).__setitem__(i, value),
    "detach": lambda tensor, i, value: tensor.detach().numpy().reshape(-1).__setitem__(i, value),
    "numpy": lambda tensor, i, value: np.asarray(tensor.data).ravel().__setitem__(i, value),
}


def network(algorithm: str, **options: str) -> nn.Conv2d:
    """One whose weight is too large for all of it to be kept."""
    conv = nn.Conv2d(24, 40, 3, padding=1)
    choice = ai3.Conv2dAlgorithms(algorithm, **options) if options else algorithm
    ai3.swap_conv2d(conv, choice)
    return conv


def expected(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_one_element(algorithm: str, write: str) -> None:
    conv, x = network(algorithm), torch.randn(1, 24, 12, 12)
    assert conv.bias is not None
    with torch.no_grad():
        for tensor in (conv.weight, conv.bias):
            for i in (0, 1, tensor.numel() // 2 + 1, tensor.numel() - 1):
                conv(x)
                WRITES[write](tensor, i, 50.0)
                close(conv(x), expected(conv, x))


@pytest.mark.parametrize("algorithm", [n for n in ALGORITHMS["conv2d_grad_input"] if n != "custom"])
def test_one_element_between_gradients(algorithm: str) -> None:
    conv = network("default", grad_input=algorithm)
    x = torch.randn(1, 24, 12, 12, requires_grad=True)
    cotangent = torch.randn(1, 40, 12, 12)
    for i in (1, 5001, conv.weight.numel() - 1):
        torch.autograd.grad(conv(x), x, cotangent)
        conv.weight.data.view(-1)[i] = 50
        (found,) = torch.autograd.grad(conv(x), x, cotangent)
        (wanted,) = torch.autograd.grad(expected(conv, x), x, cotangent)
        close(found, wanted)


@pytest.mark.parametrize("pattern", [0x80000000, 0x7FC00000, 0x7FC00001, 0xFFC00000])
def test_any_bit_of_any_element(pattern: int) -> None:
    """-0.0 and NaN, each of which compares with others unlike their bits do."""
    conv, x = network("direct"), torch.zeros(1, 24, 5, 5)
    x[0, 3] = 1
    conv.weight.data.zero_()
    with torch.no_grad():
        conv(x)
        conv.weight.detach().numpy().view(np.uint32)[7, 3, 1, 1] = pattern
        torch.testing.assert_close(conv(x), expected(conv, x), equal_nan=True)


def test_a_weight_with_channels_last_and_one_with_gaps() -> None:
    x = torch.randn(1, 24, 12, 12)
    for make in (
        lambda weight: weight.contiguous(memory_format=torch.channels_last),
        lambda weight: torch.stack([weight, weight], -1)[..., 0],
        lambda weight: weight[:1].expand(40, -1, -1, -1),
    ):
        conv = network("direct")
        conv.weight = nn.Parameter(make(conv.weight.detach()))
        with torch.no_grad():
            for at in ((0, 0, 1, 1), (0, 23, 2, 1), (0, 11, 0, 2)):
                conv(x)
                conv.weight.data[at] = 50
                close(conv(x), expected(conv, x))


def test_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        conv, x = network("winograd"), torch.randn(1, 24, 12, 12)
        for i in range(0, conv.weight.numel(), 997):
            conv.weight.view(-1)[i] += 50
            close(conv(x), expected(conv, x))


def test_a_frozen_network_notices_what_torch_counts() -> None:
    conv, x = network("direct"), torch.randn(1, 24, 12, 12)
    ai3.freeze(conv)
    with torch.no_grad():
        conv(x)
        conv.weight[1, 2, 1, 1] = 50
        close(conv(x), expected(conv, x))
        conv.weight.data = torch.randn_like(conv.weight)
        close(conv(x), expected(conv, x))
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    conv(x).sum().backward()
    optimizer.step()
    close(conv(x), expected(conv, x))


def test_the_word_is_kept_and_taken_back() -> None:
    x = torch.randn(1, 24, 12, 12)

    def sees(conv: nn.Conv2d) -> bool:
        """Whether it sees what it was told would not be done."""
        with torch.no_grad():
            conv(x)
            conv.weight.data[1, 2, 1, 1] += 50
            return torch.allclose(conv(x), expected(conv, x), rtol=1e-3, atol=1e-3)

    conv = network("direct")
    assert sees(conv)
    ai3.freeze(nn.Sequential(conv))
    assert not sees(conv)
    assert not sees(copy.deepcopy(conv))
    assert not sees(pickle.loads(pickle.dumps(conv)))
    ai3.unfreeze(conv)
    assert sees(conv)
    ai3.freeze(conv)
    ai3.swap_conv2d(conv, "direct")
    assert sees(conv)
    ai3.freeze(conv)
    ai3.restore(conv)
    assert "_frozen" not in conv.__dict__
