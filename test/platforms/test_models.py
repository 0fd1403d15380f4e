"""Networks on the devices of a platform, converted."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import SelectionError, UnsupportedAlgorithmError, UnsupportedCallableError
from runners import networks
from test.platforms.device import Mirror


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.relu(self.norm(self.first(x)))
        z = torch.nn.functional.silu(self.second(y) + y)
        return {"scores": self.head(z.mean((2, 3))).softmax(1), "map": z}


def small() -> nn.Module:
    net = Small().eval()
    net.norm.running_mean.normal_()  # type: ignore[operator, union-attr]
    return net


X = torch.randn(2, 3, 10, 9)


def on(device: str, module: nn.Module, **how: Any) -> Any:
    return ai3.swap_backend(module.to(device), **how)


def test_runs_where_the_network_is(mirror: Mirror) -> None:
    net = small()
    expected = net(X)
    model = on("mirror:1", net)
    for x in (X, X, torch.randn(1, 3, 6, 6)):
        with torch.no_grad():
            expected = net.cpu()(x)
        found = model(x.to("mirror:1"))
        assert {v.device for v in found.values()} == {torch.device("mirror:1")}
        for name, value in expected.items():
            torch.testing.assert_close(found[name].cpu(), value, rtol=1e-4, atol=1e-5)
    columns: Any = mirror.algorithms("conv2d")["columns"]
    packings = columns.packings
    model(X.to("mirror:1"))
    assert columns.packings == packings


def test_report_names_what_ran(mirror: Mirror) -> None:
    model = on("mirror", small(), algos={"conv2d": {"first": "columns", "second": "own"}})
    report = model.report(X.to("mirror"), repeat=1)
    ran = {(node.name, node.op): node.algorithm for node in report.nodes}
    assert ran["first", "conv2d"] == "columns" and ran["second", "conv2d"] == "own"
    assert ran["head", "linear"] == "own" and "batchnorm2d" not in {op for _, op in ran}
    assert {node.algorithm for node in report.nodes if node.op == "softmax"} == {"torch"}
    assert all(node.ms >= 0 for node in report.nodes) and model.report(repeat=1).nodes
    fused = model.graph_for(X.to("mirror")).nodes
    assert [n.op for n in fused if n.op in ("conv2d", "add", "relu", "silu")] == ["conv2d"] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(mirror: Mirror, dtype: torch.dtype) -> None:
    net = small()
    expected = net(X)
    model = on("mirror", net.to(dtype))
    found = model(X.to("mirror", dtype))
    for name, value in expected.items():
        assert found[name].dtype is dtype
        torch.testing.assert_close(found[name].cpu().float(), value, rtol=0.1, atol=0.1)


def test_refusals(mirror: Mirror) -> None:
    algos = {"conv2d": "columns"}
    with pytest.raises(UnsupportedAlgorithmError, match="second: 'columns': it has groups"):
        on("mirror", small(), algos=algos, sample_input_shape=X.shape)
    assert on("mirror", small(), algos=algos, unsupported="own")(X.to("mirror"))
    with pytest.raises(SelectionError, match="for unsupported=: 'no such' is unknown"):
        on("mirror", small(), algos=algos, unsupported="no such")
    model = on("mirror:0", small())
    with pytest.raises(ValueError, match="is on mirror:0, but an input is on cpu"):
        model(X)
    with pytest.raises(TypeError, match="takes torch tensors on mirror:0, not a ndarray"):
        model(X.numpy())
    with pytest.raises(ValueError, match="is of networks on the CPU"):
        on("mirror", small(), precision="bfloat16")
    mirror.absent = "it is foggy"
    with pytest.raises(ValueError, match="weights are on mirror:0, and it is foggy"):
        on("mirror", small())


def test_what_ai3_does_not_have_runs_in_torch_there(mirror: Mirror) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.shift = nn.Parameter(torch.randn(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.special.i0(x) + self.shift)

    net = Net()
    expected = net(X).detach()
    with pytest.raises(UnsupportedCallableError):
        on("mirror", net)
    found = on("mirror", net, unsupported="torch")(X.to("mirror"))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


def test_pickles_and_predicts(mirror: Mirror) -> None:
    model = on("mirror:1", small())
    again = pickle.loads(pickle.dumps(model))
    x = X.to("mirror:1")
    assert again.device == model.device
    torch.testing.assert_close(again(x)["map"].cpu(), model(x)["map"].cpu())
    assert model.predict(x)["map"].device == model.device


@pytest.mark.thinned(9)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks(mirror: Mirror, name: str) -> None:
    loaded = networks.load(name)
    shape = (1, *networks.SMALL.get(name, loaded.input_shape)[1:])
    x = torch.randn(shape)
    make: Callable[[nn.Module], nn.Module] = networks.with_same_weights
    with torch.no_grad():
        expected = loaded.module(x)
        model = ai3.swap_backend(make(loaded.module).to("mirror"))
        found = model(x.to("mirror"))
    torch.testing.assert_close(found.cpu(), expected, rtol=2e-3, atol=2e-3)


def test_plans_and_tuning_are_for_models_in_memory(mirror: Mirror) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3)).eval().to("mirror")
    model = ai3.swap_backend(module)
    x = torch.randn(1, 3, 8, 8).to("mirror")
    for ask in (model.plan, model.tune, lambda x: ai3.tune(model, x), lambda x: model.use("none")):
        with pytest.raises(ValueError, match="the model is on mirror"):
            ask(x)
