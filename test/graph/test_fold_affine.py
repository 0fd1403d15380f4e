"""Scales and shifts of channels vanish into the weights before them, and only there."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.graph import Graph, Node
from ai3.graph.fold_affine import fold_affine


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    return layer


def ops_after(module: nn.Module, x: Tensor) -> list[str]:
    """The operations that are left, when the result is torch's."""
    module.eval()
    model = ai3.swap_backend(module)
    with torch.no_grad():
        torch.testing.assert_close(model(x), module(x), rtol=1e-4, atol=1e-5)
    return [node.op for node in model.graph.nodes if node.op != "constant"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norms_after_a_convolution(bias: bool, groups: int) -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups, bias=bias), norm(6), norm(6))
    assert ops_after(net, torch.randn(2, 4, 5, 6)) == ["conv2d"]


def test_constants_for_each_channel() -> None:
    class Scaled(nn.Module):
        def __init__(self, shape: Sequence[int], first: nn.Module) -> None:
            super().__init__()
            self.first = first
            self.shift = nn.Parameter(torch.randn(tuple(shape)))

        def forward(self, x: Tensor) -> Tensor:
            return self.shift + self.first(x)

    image, rows = torch.randn(2, 3, 5, 4), torch.randn(2, 5, 3)
    conv, linear = nn.Conv2d(3, 4, 1), nn.Linear(3, 4)
    assert ops_after(Scaled((4, 1, 1), conv), image) == ["conv2d"]
    assert ops_after(Scaled((), conv), image) == ["conv2d"]
    assert ops_after(Scaled((4,), linear), rows) == ["linear"]
    # Along another dimension, or with more of them than the result may have.
    assert ops_after(Scaled((4,), conv), image) == ["conv2d", "add"]
    assert ops_after(Scaled((1, 4, 1, 1), conv), image) == ["conv2d", "add"]
    assert ops_after(Scaled((5, 1), linear), rows) == ["linear", "add"]
    assert ops_after(Scaled((2, 1, 1), linear), rows) == ["linear", "add"]


def test_what_is_read_elsewhere_is_kept() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), norm(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + self.norm(y)

    assert ops_after(Twice(), torch.randn(1, 3, 4, 4)) == ["conv2d", "batchnorm2d", "add"]


def test_a_shared_convolution_is_folded_for_each_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), norm(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.norm(self.conv(x)))

    assert ops_after(Shared(), torch.randn(1, 3, 4, 4)) == ["conv2d", "conv2d"]


def test_the_graph_that_is_given_does_not_change() -> None:
    weight = torch.randn(2, 3).numpy()
    shift = torch.randn(2).numpy()
    graph = Graph(
        ("x",),
        (
            Node("a", "linear", ("x",), {}, (weight, None)),
            Node("c", "constant", (), {}, (shift,)),
            Node("b", "add", ("a", "c")),
        ),
        ("b",),
    )
    before = str(graph)
    (node,) = fold_affine(graph).nodes
    assert str(graph) == before
    assert node.name == "a"
    torch.testing.assert_close(torch.tensor(node.weights[1]), torch.tensor(shift))
