"""Sums and activations move into the layer before them, where that changes no result."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3.ops import ON_CPU
from test.compare import in_own_dtype

ACTIVATIONS = (
    torch.relu,
    F.relu6,
    lambda x: F.leaky_relu(x, 0.3),
    F.silu,
    F.hardswish,
    F.hardsigmoid,
    torch.sigmoid,
    torch.tanh,
    F.gelu,
    lambda x: F.gelu(x, approximate="tanh"),
    lambda x: F.elu(x, 0.7),
)


class Net(nn.Module):
    def __init__(self, function: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.linear = nn.Linear(5, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv, self.linear, x)


def ops_for(function: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> list[str]:
    """The operations that run, when the result is torch's."""
    net = Net(function)
    x = torch.randn(2, 3, 4, 5)
    model = ai3.swap_backend(net)
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)
    return [node.op for node in model.graph_for(x).nodes]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: Callable[[Tensor], Tensor]) -> None:
    assert ops_for(lambda conv, linear, x: activation(conv(x))) == ["conv2d"]
    assert ops_for(lambda conv, linear, x: activation(linear(x) + x)) == ["linear"]
    assert ops_for(lambda conv, linear, x: activation(x + conv(x))) == ["conv2d"]


def test_only_what_is_read_once_and_of_one_shape() -> None:
    def twice(conv: nn.Module, linear: nn.Module, x: Tensor) -> Tensor:
        y = conv(x)
        return torch.relu(y) + y

    assert ops_for(twice) == ["conv2d", "relu", "add"]
    assert ops_for(lambda c, f, x: c(x) + x[:, :, :, :1]) == ["conv2d", "slice", "add"]
    assert ops_for(lambda c, f, x: torch.add(c(x), x, alpha=2)) == ["conv2d", "add"]
    assert ops_for(lambda c, f, x: torch.relu(c(x)) + x) == ["conv2d", "add"]
    assert ops_for(lambda c, f, x: torch.tanh(torch.relu(c(x)))) == ["conv2d", "tanh"]


def test_a_sum_of_two_layers() -> None:
    assert ops_for(lambda c, f, x: torch.relu(c(x) + f(x))) == ["linear", "conv2d"]
    assert ops_for(lambda c, f, x: c(x) + x + x) == ["conv2d", "add"]


@pytest.mark.parametrize("algorithm", in_own_dtype(ON_CPU["conv2d"]))
def test_every_algorithm_does_it(algorithm: str) -> None:
    net = Net(lambda conv, linear, x: torch.relu(conv(x) + x))
    x = torch.randn(2, 3, 9, 8)
    model = ai3.swap_backend(net, {"conv2d": algorithm}, unsupported="direct")
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x), rtol=1e-3, atol=1e-4)
    assert [node.op for node in model.graph_for(x).nodes] == ["conv2d"]
