"""precision="bfloat16": values that may be rounded are, where it is faster and nowhere else."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

import ai3
from ai3 import _core
from ai3.graph import choose_layouts
from test.compare import assert_close

EPSILON = torch.finfo(torch.bfloat16).eps
estimate = choose_layouts._estimate


def is_narrow(problem: Any) -> bool:
    return any(spec.dtype == "bfloat16" for spec in problem.inputs)


def favourable(problem: Any, algorithm: str) -> float:
    return 0.0 if is_narrow(problem) else estimate(problem, algorithm) + 1e5


def unfavourable(problem: Any, algorithm: str) -> float:
    return estimate(problem, algorithm) + (1e12 if is_narrow(problem) else 0)


@pytest.fixture(params=["floats", "pairs"])
def cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """bfloat16 is estimated to take nothing, and multiplied in both ways."""
    pairs = request.param == "pairs"
    if pairs and _core.fma_peak("bfloat16") == 0:
        pytest.skip("the processor, or this level, has no instruction for pairs")
    monkeypatch.setattr(choose_layouts, "_estimate", favourable)
    _core.force_pairs(pairs)
    yield
    _core.force_pairs(None)


class Mixed(nn.Module):
    """Layers that compute in bfloat16, that move it, and that do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.norm = nn.BatchNorm2d(64)
        self.squeeze, self.excite = nn.Conv2d(64, 8, 1), nn.Conv2d(8, 64, 1)
        self.rows, self.last = nn.Linear(64, 48), nn.Linear(48, 10)
        self.layer_norm = nn.LayerNorm(48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.silu(self.second(x) + x)
        x = torch.cat([F.max_pool2d(x, 2), F.avg_pool2d(x, 2)], 1)
        x = x + F.hardswish(self.norm(self.depthwise(x)))
        scale = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        x = F.interpolate(x * torch.sigmoid(scale), scale_factor=2.0)
        x = self.layer_norm(F.gelu(self.rows(x.flatten(2).transpose(1, 2))))
        return self.last(torch.softmax(x, -1).mean(1))


def dtypes_of(model: ai3.Model, *inputs: torch.Tensor) -> dict[str, str]:
    return {name: spec.dtype for name, spec in model.graph_for(*inputs).specs.items()}


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("size", [(1, 3, 16, 16), (3, 3, 9, 21), (2, 3, 2, 2)], ids=str)
def test_values_are_rounded_where_it_pays(cheap: None, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = Mixed().eval()
    x = torch.randn(size)
    model = ai3.swap_backend(net, precision="bfloat16")
    result = model(x)
    dtypes = dtypes_of(model, x)
    assert result.dtype is torch.float32
    assert dtypes["x"] == dtypes[model.graph_for(x).outputs[0]] == "float32"
    assert list(dtypes.values()).count("bfloat16") >= 6
    with torch.no_grad():
        expected = net.double()(x.double())
    assert 0 < distance(result, expected) < 4 * EPSILON
    assert distance(ai3.swap_backend(net.float())(x), expected) < 1e-5
    softmax = next(node for node in model.graph_for(x).nodes if node.op == "softmax")
    assert dtypes[softmax.name] == "float32"


def test_it_is_a_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the estimates are for float32 nothing is rounded, and without it nothing ever is."""
    net, x = Mixed().eval(), torch.randn(1, 3, 16, 16)
    plain = ai3.swap_backend(net)
    assert set(dtypes_of(plain, x).values()) == {"float32"}
    monkeypatch.setattr(choose_layouts, "_estimate", unfavourable)
    model = ai3.swap_backend(net, precision="bfloat16")
    assert set(dtypes_of(model, x).values()) == {"float32"}
    assert torch.equal(model(x), plain(x))
    double = ai3.swap_backend(net, dtype="float64", precision="bfloat16")
    assert set(dtypes_of(double, x.double()).values()) == {"float64"}


def test_a_layer_in_float32_writes_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next one reads it, the result is rounded as it is stored."""
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()

    def favours_deep(problem: Any, algorithm: str) -> float:
        reads = problem.inputs[0].dtype == "bfloat16"
        channels = problem.inputs[0].shape[1]
        cycles = estimate(problem, algorithm)
        if problem.op == "conv2d" and reads != (channels == 32):
            cycles += 1e9
        return cycles

    monkeypatch.setattr(choose_layouts, "_estimate", favours_deep)
    x = torch.randn(2, 3, 17, 18)
    model = ai3.swap_backend(net, {"conv2d": "direct"}, precision="bfloat16")
    graph = model.graph_for(x)
    first = next(node for node in graph.nodes if node.op == "conv2d")
    assert graph.specs[first.inputs[0]].dtype == "float32"
    assert graph.specs[first.name].dtype == "bfloat16"
    with torch.no_grad():
        middle = net[1](net[0](x)).bfloat16().double()
        weight = net[2].weight.bfloat16().double()
        assert net[2].bias is not None
        expected = F.conv2d(middle, weight, net[2].bias.double())
    assert distance(model(x), expected) < EPSILON / 8


def test_kept_and_shown(cheap: None, tmp_path: Path) -> None:
    """A file and a pickle keep the permission; the report and the graph tell the types."""
    net, x = Mixed().eval(), torch.randn(1, 3, 16, 16)
    model = ai3.swap_backend(net, precision="bfloat16")
    expected = model(x)
    model.save(tmp_path / "model.safetensors")
    loaded = ai3.load(tmp_path / "model.safetensors")
    for other in (loaded, pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
    assert "bfloat16" in str(model.graph_for(x))
    report = model.report(x)
    assert " bf16 " in str(report) and max(map(len, str(report).splitlines())) <= 80
    assert {node.dtype for node in report.nodes} == {"bfloat16", "float32"}
    assert '"dtype": "bfloat16"' in report.json()


def test_files_of_rounded_weights(cheap: None, tmp_path: Path) -> None:
    net, x = Mixed().eval(), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        net.last.weight[0, 0], net.last.weight[0, 1] = float("nan"), float("inf")
    model, whole, half = ai3.swap_backend(net), tmp_path / "whole", tmp_path / "half"
    model.save(whole)
    model.save(half, precision="bfloat16")

    def weights_bytes(path: Path) -> int:
        with safe_open(path, framework="numpy") as opened:
            return sum(opened.get_tensor(name).nbytes for name in opened.keys())  # noqa: SIM118

    assert weights_bytes(half) * 2 == weights_bytes(whole)
    for before, after in zip(model.graph.nodes, ai3.load(half).graph.nodes, strict=True):
        for weight, kept in zip(before.weights, after.weights, strict=True):
            if weight is not None:
                expected = torch.tensor(weight).bfloat16().float()
                torch.testing.assert_close(
                    torch.tensor(kept), expected, rtol=0, atol=0, equal_nan=True
                )
    # A network of bfloat16 is kept in it, and loses nothing.
    narrow = ai3.swap_backend(net.bfloat16())
    narrow.save(half)
    assert weights_bytes(half) * 2 <= 1.01 * weights_bytes(whole)  # a folded bias is no bfloat16
    narrow.save(whole, precision="float32")
    assert weights_bytes(half) * 2 <= 1.01 * weights_bytes(whole)
    for path in (half, whole):
        loaded, expected = ai3.load(path)(x.bfloat16()), narrow(x.bfloat16())
        assert torch.equal(loaded.isnan(), expected.isnan())
        assert torch.equal(loaded.nan_to_num(), expected.nan_to_num())
    with pytest.raises(ValueError, match=r"precision: 'half'.*'bfloat16'"):
        model.save(half, precision="half")
    with pytest.raises(ValueError, match="weights of float64 are not rounded"):
        ai3.swap_backend(net.double()).save(half, precision="bfloat16")


def test_other_sizes(cheap: None) -> None:
    """Whatever sizes were met before, a plan rounds no less and no more than it may."""
    torch.manual_seed(0)
    net = Mixed().eval()
    model = ai3.swap_backend(net, precision="bfloat16")
    exact = Mixed().eval()
    exact.load_state_dict(net.state_dict())
    exact.double()
    for size in (16, 18, 17, 34, 16):
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            assert distance(model(x), exact(x.double())) < 4 * EPSILON


def test_names(cheap: None) -> None:
    """'... bf16' of one layer rounds what that layer multiplies, from float32 to float32."""
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 5))
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        expected = net(x)
    names = {"conv2d": ["direct bf16", "direct"], "linear": "default bf16"}
    model = ai3.swap_backend(net, names)
    assert set(dtypes_of(model, x).values()) == {"float32"}
    assert 0 < distance(model(x), expected.double()) < EPSILON
    algorithms = {node.op: node.algorithm for node in model.graph_for(x).nodes}
    assert algorithms["linear"] == "direct bf16"
    ai3.swap_conv2d(net, ["winograd f2 bf16", "direct"])
    with torch.no_grad():
        result = net(x)
    assert 0 < distance(result, expected.double()) < EPSILON
    result = net(x.requires_grad_())
    result.sum().backward()  # the gradients are float32's
    assert x.grad is not None and x.grad.dtype is torch.float32


@pytest.mark.parametrize("sample", [None, (1, 3, 16, 16)])
def test_networks_of_bfloat16(sample: tuple[int, ...] | None, tmp_path: Path) -> None:
    """Weights, inputs and outputs in bfloat16; what lies between is no less exact than torch."""
    torch.manual_seed(0)
    net, x = Mixed().eval().bfloat16(), torch.randn(2, 3, 16, 16).bfloat16()
    model = ai3.swap_backend(net, sample_input_shape=sample)
    result = model(x)
    assert result.dtype is torch.bfloat16
    with torch.no_grad():
        theirs = net(x)
        expected = net.double()(x.double())
    assert distance(result, expected) < max(1.2 * distance(theirs, expected), 2 * EPSILON)
    model.save(tmp_path / "model.safetensors")
    assert torch.equal(ai3.load(tmp_path / "model.safetensors")(x), result)
    with pytest.raises(TypeError, match="the input x is float32, and the model takes bfloat16"):
        model(x.float())
    wide = ai3.swap_backend(net.bfloat16(), dtype=torch.float32)
    assert_close(wide(x.float()), expected.float())


def test_weights_of_bfloat16_are_held_once(cheap: None, tmp_path: Path) -> None:
    """As bfloat16, beside which there is what convolutions have packed of it, and no float32."""
    conv, batch_norm, rows = nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 100)
    batch_norm.running_mean, batch_norm.running_var = torch.randn(64), torch.rand(64) + 0.5
    net = nn.Sequential(conv, batch_norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), rows)
    net, x = net.eval().bfloat16(), torch.randn(2, 16, 9, 9).bfloat16()
    model = ai3.swap_backend(net)
    result = model(x)
    model.save(tmp_path / "model.safetensors")
    loaded = ai3.load(tmp_path / "model.safetensors")
    for other in (model, loaded, pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), result)
        held = {n.op: n.weights[0] for n in other.graph.nodes if n.op in ("conv2d", "linear")}
        for op, weight in {"conv2d": conv.weight, "linear": rows.weight}.items():
            kept = held[op]
            assert kept is not None and kept.dtype.name == "bfloat16"
            assert kept.nbytes == 2 * weight.numel()
            if op == "linear":  # the convolution's is that with the batch norm
                assert torch.equal(torch.tensor(np.asarray(kept)), weight.detach().float())
        assert not any("batch" in node.op for node in other.graph.nodes)
        padded = 1.3 * conv.weight.numel() * 2
        assert 0 < other._weights.packed_bytes <= padded
    with torch.no_grad():
        assert distance(result, net.double()(x.double())) < 2 * EPSILON


def test_networks_of_bfloat16_and_torch() -> None:
    """What torch would run only if need be changes nothing; with a node of torch's it runs the
    network, with the swapped modules in bfloat16."""
    net, x = Mixed().eval().bfloat16(), torch.randn(2, 3, 16, 16).bfloat16()
    model = ai3.swap_backend(net, unsupported="torch")
    assert "torch" not in {node.algorithm for node in model.profile(x)}
    assert torch.equal(model(x), ai3.swap_backend(net)(x))

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0(self.inner(x))

    odd = ai3.swap_backend(Odd(), unsupported="torch")
    with torch.no_grad():
        exact = torch.special.i0(net.double()(x.double()))
    net.bfloat16()
    result = odd(x)
    assert result.dtype is torch.bfloat16 and distance(result, exact) < 4 * EPSILON


def test_bad_input() -> None:
    net, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    with pytest.raises(ValueError, match="'float32' or 'bfloat16', not 'half'"):
        ai3.swap_backend(net, precision="half")
    with pytest.raises(TypeError, match="is bfloat16, and the model takes float32 or float64"):
        ai3.swap_backend(net)(x.bfloat16())
    with pytest.raises(ai3.errors.UnsupportedAlgorithmError, match="and this is float64"):
        ai3.swap_conv2d(net.double(), "direct bf16")
