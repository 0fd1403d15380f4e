"""`torch.compile(network, backend="ai3")`."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ai3.torch import backend


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same")
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x) + x)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture
def net() -> Net:
    torch._dynamo.reset()
    net = Net()
    nn.init.uniform_(net.norm.running_mean)
    return net.eval()


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_it_is_listed() -> None:
    assert "ai3" in torch._dynamo.list_backends()


def test_inference_converts_the_whole_graph(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    models = []

    def recording(*arguments: Any) -> Any:
        models.append(swap_backend(*arguments))
        return models[-1]

    swap_backend = backend.swap_backend
    monkeypatch.setattr(backend, "swap_backend", recording)
    options = {"algos": {"conv2d": "winograd"}}
    compiled = torch.compile(net, backend="ai3", fullgraph=True, options=options)
    with torch.no_grad():
        for batch in (2, 2, 3, 4):
            x = torch.randn(batch, 3, 8, 9)
            close(compiled(x), net(x))
        assert {n.algorithm for n in models[-1].graph.nodes if n.op == "conv2d"} == {"winograd"}
        made = len(models)
        net.second.weight.mul_(2)
        net.norm.running_var.add_(1)
        close(compiled(x), net(x))
    assert len(models) == made + 1


def test_training_swaps_the_convolutions(net: Net) -> None:
    own = copy.deepcopy(net).train()
    net.train()
    compiled = torch.compile(own, backend="ai3", fullgraph=True)
    for batch in (2, 4):
        x = torch.randn(batch, 3, 8, 9)
        with torch.profiler.profile() as profile:
            compiled(x).square().sum().backward()
        net(x).square().sum().backward()
        names = {event.key for event in profile.key_averages()}
        assert {"ai3::conv2d", "ai3::conv2d_grad_weight"} <= names
    for a, b in zip(own.parameters(), net.parameters(), strict=True):
        close(a.grad, b.grad)


def test_what_it_does_not_have_is_said(net: Net) -> None:
    class Sorts(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.linalg.qr(x)[0]

    compiled = torch.compile(Sorts(), backend="ai3")
    with torch.no_grad(), pytest.raises(Exception, match="operations are not supported"):
        compiled(torch.randn(3, 3))


def test_options_are_checked(net: Net) -> None:
    compiled = torch.compile(net, backend="ai3", options={"algorithm": "direct"})
    with (
        torch.no_grad(),
        pytest.raises(Exception, match="'algos' and 'unsupported', not algorithm"),
    ):
        compiled(torch.randn(1, 3, 8, 9))
