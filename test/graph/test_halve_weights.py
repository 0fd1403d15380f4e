"""Large weights in halves: nothing of them is lost, and bfloat16 needs no copy of its own."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ai3
from ai3 import _core
from ai3.arrays import HalvedArray
from ai3.graph import choose_layouts, halve_weights
from test.graph.test_precision import favourable, unfavourable


def numbers(count: int) -> "np.ndarray":
    """Floats of any bits, of which many lie in the middle of two numbers of bfloat16."""
    bits = np.random.default_rng(count).integers(0, 1 << 32, count, np.uint32)
    bits[::3] = bits[::3] & 0xFFFF0000 | 0x8000
    special = np.array(
        [0, 0x80000000, 1, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FBFFFFF],
        np.uint32,
    )
    bits[: len(special)] = special[:count]
    return bits.view(np.float32)


@pytest.mark.parametrize("count", [0, 1, 9, 63, 64, 65, 1000, 100_003])
@pytest.mark.parametrize("threads", [1, 2])
def test_halves_are_the_whole(count: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        array = numbers(count).reshape(1, count)
        halves = HalvedArray(array)
        restored = np.asarray(halves)
        rounded = _core.Call("reorder", {"layout": "dense", "output_dtype": "bfloat16"}, "direct")
        assert halves.shape == array.shape and halves.ndim == 2 and len(halves) == 1
        assert np.array_equal(np.isnan(restored), np.isnan(array))
        same = restored.view(np.uint32) == array.view(np.uint32)
        assert same[~np.isnan(array)].all()
        assert halves.nbytes <= 4.25 * count + 16
        again = pickle.loads(pickle.dumps(halves))
        assert np.array_equal(np.asarray(again), restored, equal_nan=True)
        # What the core reads as bfloat16 is the array rounded.
        if count:
            x = np.eye(1, count, dtype=np.float32)[:, :count]
            weights = _core.Weights.of([halves]), _core.Weights.of([array])
            spec = [_core.Spec("bfloat16", (1, count))]
            first, second = (
                _core.problem("linear", spec, w).run("direct", rounded(_core.Tensor(x)))
                for w in weights
            )
            assert np.array_equal(first.bits, second.bits)
    finally:
        torch.set_num_threads(before)


def test_only_float32_is_halved() -> None:
    with pytest.raises(TypeError, match="float32 are held in halves, not of float64"):
        HalvedArray(np.zeros((2, 2)))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(96, 200), nn.Linear(200, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halve_weights, "LARGE", 64 << 10)


def halved(model: ai3.Model) -> list[str]:
    return [
        node.label
        for node in model.graph.nodes
        for weight in node.weights
        if isinstance(weight, HalvedArray)
    ]


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_both_types_compute_as_before(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Classifier().eval(), torch.randn(rows, 96)
    for estimate in (favourable, unfavourable):
        monkeypatch.setattr(choose_layouts, "_estimate", estimate)
        model = ai3.swap_backend(net, precision="bfloat16")
        assert halved(model) == ["first"]
        monkeypatch.setattr(halve_weights, "LARGE", 1 << 40)
        whole = ai3.swap_backend(net, precision="bfloat16")
        monkeypatch.setattr(halve_weights, "LARGE", 64 << 10)
        assert not halved(whole)
        assert torch.equal(model(x), whole(x))
        if estimate is favourable:
            own = [m.weights["first"].packed_bytes for m in (model, whole)]
            assert own[1] - own[0] == (2 * 96 * 200 if rows < 24 else 0)
        else:
            assert torch.equal(model(x), ai3.swap_backend(net)(x))


def test_only_where_it_may_be_rounded() -> None:
    net = Classifier().eval()
    assert not halved(ai3.swap_backend(net))
    assert not halved(ai3.swap_backend(net, {"linear": "strassen"}, precision="bfloat16"))
    assert not halved(ai3.swap_backend(net, dtype="float64", precision="bfloat16"))
    assert not halved(ai3.swap_backend(net.bfloat16()))
    net.float()
    named = ai3.swap_backend(net, {"linear": "direct bf16"})
    assert halved(named) == ["first"]
    x = torch.randn(2, 96)
    assert named.graph_for(x).specs["first"].dtype == "float32"
    assert named.weights["first"].packed_bytes == 0


def test_a_weight_that_others_read_is_whole() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.last = nn.Embedding(200, 96), nn.Linear(96, 200)
            self.again = nn.Linear(96, 200)
            self.last.weight = self.words.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.words(x)) + self.again(self.words(x)) + self.again(self.words(x))

    model = ai3.swap_backend(Tied().eval(), precision="bfloat16")
    # One array for both calls.
    assert halved(model) == ["again", "again"]
    again = [node.weights[0] for node in model.graph.nodes if node.label == "again"]
    assert again[0] is again[1]


def test_files_and_pickles_keep_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_layouts, "_estimate", favourable)
    net, x = Classifier().eval(), torch.randn(2, 96)
    model = ai3.swap_backend(net, precision="bfloat16")
    expected = model(x)
    model.save(tmp_path / "model.safetensors")
    loaded = ai3.load(tmp_path / "model.safetensors")
    for other in (model, loaded, pickle.loads(pickle.dumps(model))):
        assert halved(other) == ["first"]
        kept = next(node.weights[0] for node in other.graph.nodes if node.label == "first")
        assert np.array_equal(np.asarray(kept), net.first.weight.detach().numpy())
        assert torch.equal(other(x), expected)
