"""A depthwise convolution is computed with the pointwise one before it where that pays."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import ai3


class Block(nn.Module):
    """Layers as at the beginning of MobileNetV3."""

    def __init__(self, expanded: int = 64, kernel: int = 1, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.expand = nn.Conv2d(16, expanded, kernel, padding=kernel // 2, bias=False)
        self.depthwise = nn.Conv2d(
            expanded, expanded, 3, 2, 1, groups=expanded, padding_mode=padding_mode
        )
        self.project = nn.Conv2d(expanded, 24, 1)
        self.also_expanded = False

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        expanded = nn.functional.hardswish(self.expand(x))
        y: Tensor = self.project(nn.functional.relu6(self.depthwise(expanded)))
        return y + expanded.mean() if self.also_expanded else y


def ops_for(
    net: nn.Module, size: int = 224, algorithms: Mapping[str, object] | None = None, batch: int = 1
) -> list[str]:
    """The operations of what runs, whose result is torch's."""
    x = torch.randn(batch, 3, size, size)
    model = ai3.swap_backend(net.eval(), algorithms)
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)
    return [node.op for node in model.graph_for(x).nodes if node.op != "reorder"]


FUSED = ["conv2d", "expand_depthwise", "conv2d"]
APART = ["conv2d", "conv2d", "conv2d", "conv2d"]


@pytest.mark.parametrize("batch", [1, 2])
def test_large_images_between_them(batch: int) -> None:
    assert ops_for(Block(), batch=batch) == FUSED


def test_small_images_between_them() -> None:
    assert ops_for(Block(), size=64) == APART
    assert ops_for(Block(), size=50, batch=16) == APART


def test_only_what_is_pointwise_depthwise_and_read_once() -> None:
    read_twice = Block()
    read_twice.also_expanded = True
    assert "expand_depthwise" not in ops_for(read_twice)
    assert ops_for(Block(kernel=3)) == APART
    assert ops_for(Block(padding_mode="reflect")) == APART


@pytest.mark.parametrize("layer", ["expand", "depthwise"])
def test_a_layer_of_a_chosen_algorithm_stays_itself(layer: str) -> None:
    assert ops_for(Block(), algorithms={"conv2d": {layer: "direct"}}) == APART


def test_what_the_report_says() -> None:
    net = Block().eval()
    x = torch.randn(1, 3, 224, 224)
    model = ai3.swap_backend(net)
    rows = [row for row in model.profile(x, repeat=1) if row.op == "expand_depthwise"]
    assert [row.name for row in rows] == ["expand + depthwise"]
    pixels = 112 * 112
    assert rows[0].flops == 2 * 64 * (16 * pixels + 9 * pixels // 4)
    assert rows[0].shape == (1, 64, 56, 56)
