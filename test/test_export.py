"""Networks that torch.fx cannot trace, by torch.export."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import UnsupportedCallableError, UntraceableError


class Branches(nn.Module):
    """Control flow that depends on a shape, in-place functions, a record of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.last = nn.Linear(16, 5)
        self.register_buffer("shift", torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.norm(self.conv(x))
        y += self.shift
        if x.shape[2] > 4:
            y = torch.relu_(y)
        z = torch.cat([y, y + self.norm(y)], 0)
        return {"out": self.last(self.pool(y).flatten(1)), "more": [z]}


def test_shapes_decide_and_others_are_taken() -> None:
    net = Branches().eval()
    with pytest.raises(UntraceableError, match=r"sample_input_shape=\(1, 3"):
        ai3.swap_backend(net)
    model = ai3.swap_backend(net, {"conv2d": "smm"}, sample_input_shape=(1, 3, 8, 8))
    for shape in ((1, 3, 8, 8), (2, 3, 8, 8), (3, 3, 5, 7)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = net(x.clone())
        result = model(x)
        assert result.keys() == expected.keys()
        torch.testing.assert_close(result["out"], expected["out"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(result["more"][0], expected["more"][0], rtol=1e-4, atol=1e-5)
    assert [row.name for row in model.report(x).nodes if row.algorithm == "smm"] == ["conv"]
    with pytest.raises(ValueError, match=r"requires .*shape\[2\] >= 5"):
        model(torch.randn(1, 3, 4, 8))


def test_it_is_the_same_graph() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()

    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) if x.shape[0] else x

    by_fx = ai3.swap_backend(net).graph
    by_export = ai3.swap_backend(Stubborn(), sample_input_shape=(2, 3, 8, 8)).graph
    assert [n.op for n in by_export.nodes] == [n.op for n in by_fx.nodes]
    for a, b in zip(by_fx.nodes, by_export.nodes, strict=True):
        assert [w.tolist() for w in a.weights if w is not None] == [
            w.tolist() for w in b.weights if w is not None
        ]
    assert [n.module for n in by_export.nodes] == ["net.0", "net.2", "net.3"]


def test_what_is_unsupported_is_told() -> None:
    class Transform(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).abs() if x.shape[0] > 1 else x

    with pytest.raises(UnsupportedCallableError, match=r"test_export.py:\d+.*fft"):
        ai3.swap_backend(Transform(), sample_input_shape=(2, 8))
    x = torch.randn(3, 8)
    model = ai3.swap_backend(Transform(), sample_input_shape=(2, 8), unsupported="torch")
    torch.testing.assert_close(model(x), Transform()(x))


def test_neither_can() -> None:
    class Data(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(UntraceableError, match=r"neither torch\.fx nor torch\.export"):
        ai3.swap_backend(Data(), sample_input_shape=(2, 3))
