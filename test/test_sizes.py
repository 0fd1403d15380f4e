"""Sizes that change from call to call: what was planned is kept, what is near is taken over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3 import model as models
from ai3.graph import choose_layouts, resize
from runners import networks


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(16, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 5, padding=2, groups=32)
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        y = nn.functional.hardswish(self.wide(y))
        y = y + self.depthwise(nn.functional.pad(y, (0, y.shape[3] % 2))[..., : y.shape[3]])
        return self.last(y.mean((2, 3)))


def image(width: int) -> Tensor:
    return torch.randn(1, 3, 16, width)


def counted(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    real = getattr(holder, name)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(holder, name, call)
    return calls


def test_every_size_is_right_and_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net().eval()
    model = ai3.swap_backend(net)
    planned = counted(monkeypatch, models, "compile_graph")
    resized = counted(monkeypatch, resize.Resizable, "executor")
    searched = counted(monkeypatch, choose_layouts, "_improved")
    widths = [*range(20, 68, 2), *range(21, 67, 6), 4, 300]
    for _ in range(2):
        for width in widths:
            x = image(width)
            with torch.no_grad():
                torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)
    # From the start as often as layouts are searched for, and odd sizes, which are padded, apart;
    # all others from one of those.
    assert len(planned) <= 8
    assert len(widths) - len(planned) <= len(resized) <= 2 * len(widths)
    # Layouts were looked for once in each range of sizes that are near one another, and for odd
    # sizes, which are padded, apart.
    assert len(searched) <= 8


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "squeezenet1_1"])
def test_widths_of_a_network_are_planned_from_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = networks.from_torchvision(name).eval()
    networks.randomize(module, (1, 3, 64, 64))
    model = ai3.swap_backend(module)
    planned = counted(monkeypatch, models, "compile_graph")
    for width in range(64, 256, 8):
        model.prepare(torch.empty(1, 3, 64, width))
    assert len(planned) == 1
    assert len(model._plans) == 24


def test_layouts_are_not_taken_over_from_far(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ai3.swap_backend(Net().eval())
    searched = counted(monkeypatch, choose_layouts, "_improved")
    model(image(20))
    model(image(80))
    assert len(searched) == 2
    model(image(76))
    model(image(24))
    assert len(searched) == 2


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ai3.Model, "_kept_bytes", 64 << 10)
    model = ai3.swap_backend(Net().eval())
    for width in range(16, 80):
        model(image(width))
    assert 2 < len(model._plans) < 32
    assert sum(plan.bytes for plan in model._plans.values()) <= 64 << 10


def test_two_thousand_sizes_take_little_memory() -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    model = ai3.swap_backend(Net().eval())
    for width in range(8, 40):
        model(image(width))
    before = resident()
    for i in range(2000):
        model.prepare(torch.empty(1, 3, 8 + i % 40, 8 + i // 40))
    assert resident() - before < 64
