"""Images are written and read in the layouts that take least, and nothing else changes."""

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.graph import Graph
from ai3.graph.choose_layouts import choose_layouts
from test.compare import assert_close


class Branches(nn.Module):
    """Convolutions between what takes any layout and what takes none but dense."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.left = nn.Conv2d(channels, channels, 3, padding=1)
        self.right = nn.Conv2d(channels, channels, 1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.linear = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.first(x))
        left = self.left(x) + x
        right = self.right(x).sigmoid()
        y = self.last(self.pool(torch.cat([left, right], 1)))
        return self.linear(y.mean((2, 3))), y


class Turned(nn.Module):
    """What a block of ConvNeXt does: linear layers on the channels of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 48, 4, 4)
        self.spatial = nn.Conv2d(48, 48, 7, padding=3, groups=48)
        self.norm = nn.LayerNorm(48)
        self.linear = nn.Linear(48, 48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.spatial(x).permute(0, 2, 3, 1)
        y = self.linear(self.norm(y)).permute(0, 3, 1, 2)
        return (x + y).mean((2, 3))


def layouts(graph: Graph, op: str) -> set[str]:
    return {graph.specs[node.name].layout for node in graph.nodes if node.op == op}


def steps(graph: Graph, op: str) -> int:
    return sum(node.op == op for node in graph.nodes)


@pytest.mark.parametrize("channels", [16, 17, 64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_stay(channels: int, batch: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = Branches(channels).to(dtype).eval()
    x = torch.randn(batch, 3, 18, 14, dtype=dtype)
    model = ai3.swap_backend(net, dtype=dtype)
    for result, expected in zip(model(x), net(x), strict=True):
        assert_close(result, expected)
    graph = model.graph_for(x)
    assert {graph.specs[name].layout for name in (*graph.inputs, *graph.outputs)} == {"dense"}


def test_convolutions_hand_blocks_to_each_other() -> None:
    net = Branches(64).eval()
    x = torch.randn(1, 3, 32, 32)
    graph = ai3.swap_backend(net).graph_for(x)
    assert layouts(graph, "maxpool2d") == layouts(graph, "concat") == {"blocked"}
    assert layouts(graph, "conv2d") == {"blocked"}
    assert steps(graph, "reorder") == 1, "but for the output"


def test_permutations_that_only_name_the_dimensions_are_no_steps() -> None:
    torch.manual_seed(0)
    net = Turned().eval()
    x = torch.randn(2, 3, 64, 64)
    model = ai3.swap_backend(net)
    assert_close(model(x), net(x))
    ran = [row.ms > 0 for row in model.profile(x) if row.op == "permute"]
    assert ran == [False, False]


def test_algorithms_that_read_planes_keep_them() -> None:
    net = Branches(32).eval()
    x = torch.randn(1, 3, 20, 20)
    model = ai3.swap_backend(net, {"conv2d": "implicit gemm"})
    for result, expected in zip(model(x), net(x), strict=True):
        assert_close(result, expected)
    graph = model.graph_for(x)
    assert {node.op for node in graph.nodes} >= {"conv2d", "maxpool2d"}
    assert layouts(graph, "conv2d") == {"dense"} and not steps(graph, "reorder")


def test_nothing_to_choose() -> None:
    model = ai3.swap_backend(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    graph = model.graph_for(torch.randn(2, 4))
    assert choose_layouts(graph, None)[0] is graph  # type: ignore[arg-type]
