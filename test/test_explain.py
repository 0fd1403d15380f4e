"""What is told of each layer of a network is what happened."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.explanation.explanation import Explanation
from ai3.explanation.roofline import COMPUTE, MEMORY, Roofline, roofline
from ai3.ops import ON_CPU

CHAPTER = (Path(__file__).parent.parent / "docs/explain.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL))
def test_python_of_the_chapter(block: str, tmp_path: Path) -> None:
    (tmp_path / "pasted.py").write_text(block)
    ran = subprocess.run(
        [sys.executable, "pasted.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "2: conv2d by 'direct', which was chosen by its name" in ran.stdout
    assert (tmp_path / "network.html").exists() and (tmp_path / "network.png").exists()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.short = nn.Conv2d(16, 32, 1)
        self.fc = nn.Linear(32 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu()) + self.short(x)
        return self.fc(y.relu().flatten(1))


X = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    return Residual().eval()


def by_name(of: Explanation) -> dict[str, Any]:
    return {layer.name: layer for layer in of.layers}


def explained(network: nn.Module, algorithms: Any = None, **how: Any) -> Explanation:
    return ai3.swap_backend(network, algorithms, X.shape, **how).explain(X)


def test_every_node_of_a_model(network: nn.Module) -> None:
    model = ai3.swap_backend(network, {"conv2d": {"first": "smm", "*": "gemm"}}, X.shape)
    found = model.explain(X)
    layers = by_name(found)
    assert {"first", "second", "short", "fc"} <= layers.keys()
    assert (layers["first"].algorithm, layers["second"].algorithm) == ("smm", "gemm")
    assert [r.name for r in model.profile(X)] == [layer.name for layer in found.layers]
    first = layers["first"]
    assert first.shape == (2, 32, 8, 8) and first.dtype == "float32"
    assert first.flops == 2 * 2 * 32 * 64 * 16 * 9
    assert first.moved >= X.numel() * 4 + 2 * 32 * 64 * 4 + 32 * 16 * 9 * 4
    assert first.output_bytes == 2 * 32 * 64 * 4
    assert first.ms > 0 and found.share(first) == first.ms / found.ms
    assert first.why == "which was chosen by its name"
    assert found.weight_bytes == sum(p.nbytes for p in network.parameters())
    # What it reads: its own nodes' ids, or an input.
    ids = {layer.id for layer in found.layers}
    assert layers["fc"].inputs[0] in ids and "x" in first.inputs


@pytest.mark.parametrize("algorithm", ["winograd f6", "direct", "direct bf16"])
def test_errors_are_those_of_the_algorithm(network: nn.Module, algorithm: str) -> None:
    found = explained(network, {"conv2d": {"second": algorithm, "*": "direct"}})
    layers = by_name(found)
    one_rounding = {"winograd f6": 1e-6, "direct": 2e-8, "direct bf16": 1e-3}[algorithm]
    assert one_rounding / 20 < layers["second"].error < 20 * one_rounding
    assert layers["first"].error < 1e-6
    with torch.no_grad():
        exact = network.double()(X.double())
        network.float()
        model = ai3.swap_backend(network, {"conv2d": {"second": algorithm, "*": "direct"}})
        apart = (model(X).double() - exact).norm() / exact.norm()
    assert found.error == pytest.approx(float(apart), rel=1e-3)
    assert layers["fc"].drift == pytest.approx(found.error)


def test_memory_is_what_the_algorithm_holds(network: nn.Module) -> None:
    plain = by_name(explained(network, {"conv2d": {"second": "direct", "*": "direct"}}))["second"]
    f4 = by_name(explained(network, {"conv2d": {"second": "winograd f4", "*": "direct"}}))["second"]
    # 36 elements of a transformed kernel for the 9 of it.
    assert f4.packed_bytes == pytest.approx(4 * plain.packed_bytes, rel=0.2)
    assert f4.workspace_bytes > 0
    assert f4.added_bytes == f4.packed_bytes + f4.workspace_bytes + f4.output_bytes


def test_every_other_algorithm_or_why_not(network: nn.Module) -> None:
    layers = by_name(explained(network, {"conv2d": "direct"}))
    others = {a.algorithm: a for a in layers["short"].alternatives}
    own = set(ON_CPU["conv2d"]) - {"default", "guess", "default bf16", "custom"}
    assert others.keys() == own - {"direct"}
    assert "3x3" in others["winograd"].refusal and others["winograd"].ms is None
    assert others["gemm"].ms > 0 and others["gemm"].source == "estimated"
    assert others["gemm"].gain == pytest.approx(layers["short"].ms - others["gemm"].ms)
    assert others["direct bf16"].rounds and not others["gemm"].rounds
    # None that rounds is offered, and none that saves nothing.
    best = layers["short"].best
    assert best is None or (best.gain > 0 and not best.rounds)


def test_changing_for_the_better_is_offered(network: nn.Module) -> None:
    """A convolution of many channels by the slowest way."""
    conv = nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 32, 32)
    found = ai3.swap_backend(conv, {"conv2d": "fft"}, x.shape).explain(x)
    ((layer, other),) = found.changes
    assert layer.algorithm == "fft" and other.gain > 0
    assert "What changing would save" in str(found) and other.algorithm in str(found)
    assert not ai3.swap_backend(conv, None, x.shape).explain(x).changes


def test_types_and_why(network: nn.Module) -> None:
    assert all(
        layer.why_dtype.startswith("float32: nothing permits less")
        for layer in explained(network).layers
        if layer.op != "reorder"
    )
    named = by_name(explained(network, {"conv2d": "direct bf16"}))["first"]
    assert named.dtype == "float32" and "as the algorithm's name says" in named.why_dtype
    ai3._core.force_pairs(True)
    try:
        conv = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(4)))
        x = torch.randn(1, 64, 28, 28)
        model = ai3.swap_backend(conv, sample_input_shape=x.shape, precision="bfloat16")
        found = model.explain(x)
    finally:
        ai3._core.force_pairs(None)
    types = {layer.dtype for layer in found.layers}
    for layer in found.layers:
        if layer.op == "conv2d":
            assert layer.why_dtype.startswith(layer.dtype)
            assert re.search(r"\d times as long in (bfloat16|float32)|computes in", layer.why_dtype)
    assert "float32" in types
    doubles = ai3.swap_backend(conv.double(), sample_input_shape=x.shape).explain(x.double())
    assert doubles.layers[0].why_dtype == "float64: as the network's values are"
    assert doubles.error < 1e-12


def test_network_of_bfloat16() -> None:
    conv = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)).bfloat16()
    found = ai3.swap_backend(conv).explain(X.bfloat16())
    assert 1e-4 < found.error < 2e-2
    assert any("times as long in" in layer.why_dtype for layer in found.layers)
    ai3.swap_conv2d(conv, "direct")
    swapped = ai3.explain(conv, X.bfloat16())
    assert [layer.dtype for layer in swapped.layers] == ["bfloat16"] * 2
    assert 1e-4 < swapped.layers[0].error < 2e-2


def test_table_fits_and_nothing_that_matters_is_cut(network: nn.Module) -> None:
    found = explained(network, {"conv2d": "implicit precomp gemm"})
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    for layer in found.layers:
        if layer.ms:
            assert layer.name in text and layer.algorithm in text and f"{layer.ms:.3f}" in text
    detail = str(found["short"])
    assert max(map(len, detail.splitlines())) <= 80
    for other in found["short"].layers[0].alternatives:
        assert other.algorithm in detail
        assert not other.refusal or other.refusal[:20] in detail
    with pytest.raises(ValueError, match="'shrot' is unknown, did you mean 'short'"):
        found["shrot"]


def test_json_and_chart(network: nn.Module, tmp_path: Path) -> None:
    found = explained(network)
    document = json.loads(found.json())
    assert [row["name"] for row in document["layers"]] == [layer.name for layer in found.layers]
    assert document["ms"] == pytest.approx(sum(row["ms"] for row in document["layers"]))
    assert document["layers"][0]["alternatives"][0]["algorithm"]
    assert document["threads"] == torch.get_num_threads()
    found.chart(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_page_holds_all_and_loads_nothing(tmp_path: Path) -> None:
    """Names are whatever the user called modules."""
    name = "</script><b onload='x'>&amp;"
    network = nn.Sequential()
    network.add_module(name, nn.Conv2d(16, 4, 1))
    ai3.swap_conv2d(network, "direct")
    found = ai3.explain(network, X)
    found.html(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    links: list[str] = []
    data: list[str] = []

    class Parser(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attributes: Any) -> None:
            links.extend(v for k, v in attributes if k in ("src", "href", "action"))
            self.inside = ("id", "data") in attributes
            assert tag != "b" or "onload" not in dict(attributes)

        def handle_data(self, text: str) -> None:
            if self.inside:
                data.append(text)
                self.inside = False

    Parser().feed(text)
    assert not links and "default-src 'none'" in text and "@import" not in text
    assert json.loads(data[0])["layers"][0]["name"] == name


def test_swapped_modules(network: nn.Module) -> None:
    ai3.swap(network, {"conv2d": {"first": "winograd", "*": "smm"}, "linear": None}, X.shape)
    hooks = len(network.first._forward_hooks)
    with torch.no_grad():
        before = network(X)
    found = ai3.explain(network, X)
    layers = by_name(found)
    assert list(layers) == ["first", "second", "short", "fc"]
    assert [layer.algorithm for layer in found.layers][:3] == ["winograd", "smm", "smm"]
    assert "first" in layers["first"].why  # chosen for that name
    assert layers["fc"].op == "linear" and "'default' stands for" in layers["fc"].why
    assert layers["second"].inputs == ("first",) and not layers["short"].inputs
    assert set(layers["fc"].inputs) == {"second", "short"}
    assert layers["first"].flops == 2 * 2 * 32 * 64 * 16 * 9
    assert 0 < found.error < 1e-5 and 0 < layers["first"].error < 1e-5
    assert found.ms >= max(layer.ms for layer in found.layers)
    assert "3x3" in {a.algorithm: a for a in layers["short"].alternatives}["winograd"].refusal
    # The network is what it was.
    assert len(network.first._forward_hooks) == hooks
    assert torch.equal(network(X), before)
    with pytest.raises(ValueError, match="no module of this Residual is swapped"):
        ai3.explain(Residual(), X)
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, not str"):
        ai3.explain("resnet", X)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind, module, shape",
    [
        ("conv1d", nn.Conv1d(4, 6, 3), (2, 4, 9)),
        ("conv3d", nn.Conv3d(4, 6, 3, padding=1), (2, 4, 5, 6, 7)),
        ("conv_transpose1d", nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 9)),
        ("conv_transpose2d", nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 6)),
        ("conv_transpose3d", nn.ConvTranspose3d(4, 6, 2), (1, 4, 3, 4, 5)),
        ("linear", nn.Linear(4, 6), (2, 3, 4)),
    ],
)
def test_every_kind_of_module(kind: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    network = nn.Sequential(module)
    ai3.swap(network, {kind: "direct"})
    x = torch.randn(shape)
    (layer,) = ai3.explain(network, x).layers
    assert (layer.op, layer.algorithm) == (kind, "direct")
    assert layer.error < 1e-6 and layer.flops > 0 and layer.alternatives
    assert layer.shape == tuple(network(x).shape)


def test_modules_that_cannot_be_traced_stand_in_the_order_of_calls() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b, self.a = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) if x.sum() != 0 else x

    network = Branches()
    ai3.swap_conv2d(network)
    found = ai3.explain(network, X)
    assert [layer.name for layer in found.layers] == ["a", "b"]
    assert found.layers[1].inputs == ("a",)


def test_parts_that_torch_runs() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.special.bessel_j0(self.a(x)))

    found = ai3.swap_backend(Foreign(), unsupported="torch").explain(X)
    layers = {layer.op: layer for layer in found.layers}
    assert [layer.op for layer in found.layers if layer.ms][:1] == ["conv2d"]
    foreign = next(layer for layer in found.layers if layer.algorithm == "torch")
    assert foreign.ms > 0 and foreign.error is None and foreign.shape == (2, 4, 8, 8)
    assert found.error is None and layers["conv2d"].error < 1e-6
    assert max(map(len, str(found).splitlines())) <= 80


def test_integers_and_several_inputs() -> None:
    class Embeds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.linear = nn.Embedding(11, 6), nn.Linear(6, 6)

        def forward(self, ids: Tensor, x: Tensor) -> Tensor:
            return self.linear(self.table(ids) + x)

    ids, x = torch.arange(8).reshape(2, 4), torch.randn(2, 4, 6)
    found = ai3.swap_backend(Embeds(), sample_input_shape=[ids, x]).explain(ids, x)
    assert found.error < 1e-6 and found.layers


def test_of_latest_call_and_without_errors(network: nn.Module) -> None:
    model = ai3.swap_backend(network)
    with pytest.raises(ValueError, match=r"call the model first, or give explain\(\) an input"):
        model.explain()
    model(X)
    found = model.explain(repeat=1, errors=False)
    assert found.error is None and all(layer.error is None for layer in found.layers)


def test_without_torch() -> None:
    code = (
        "import ai3, numpy as np, sys;"
        "model = ai3.Model([ai3.layers.Conv2D(np.ones((2, 1, 3, 3), np.float32))]);"
        "found = ai3.explain(model, np.ones((1, 1, 5, 5), np.float32));"
        "print(found.layers[0].algorithm, found.error, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["direct", "0.0", "False"]


@pytest.mark.parametrize(
    "flops, moved, limit",
    [(0, 100, MEMORY), (1000, 100, COMPUTE), (999, 1000, MEMORY), (1000, 0, COMPUTE)],
)
def test_limits(flops: int, moved: int, limit: str) -> None:
    assert Roofline(1, {"float32": 100.0}, 20.0).limit(flops, moved, "float32") == limit


def test_measured_roofline_is_plausible() -> None:
    roof = roofline(1, "apart")
    assert 0.1 < roof.bandwidth < 2000
    assert roof.peak("float64") < roof.peak("float32") <= roof.peak("bfloat16")
    assert np.isfinite(list(roof.gflops.values())).all()
