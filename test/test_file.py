"""Models in files: what comes back is the same, what is no model is refused."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

import ai3
from ai3.errors import FileError

Pair = namedtuple("Pair", ["first", "second"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.shift = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x) + self.shift
        y = torch.relu(y)
        return {"out": y, "pair": Pair(y, [y.flatten(1)])}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[ai3.Model, Path]:
    model = ai3.swap_backend(Net().eval(), {"conv2d": "smm"})
    path = tmp_path / "net.ai3"
    model.save(path)
    return model, path


def rewrite(path: Path, change: Any) -> None:
    """Let `change` alter the graph in a file."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        document = json.loads(opened.metadata()["ai3"])
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(document)
    save_file(arrays, path, {"ai3": json.dumps(document)})


def test_what_is_loaded_is_what_was_saved(saved: tuple[ai3.Model, Path]) -> None:
    model, path = saved
    loaded = ai3.load(path)
    assert str(loaded.graph) == str(model.graph)
    for shape in ((2, 3, 9, 8), (1, 3, 5, 6)):
        x = torch.randn(shape)
        expected, result = model(x), loaded(x)
        assert torch.equal(result["out"], expected["out"])
        assert torch.equal(result["pair"].first, expected["pair"].first)
        assert torch.equal(result["pair"].second[0], expected["pair"].second[0])
    loaded.save(path)
    assert str(ai3.load(str(path)).graph) == str(model.graph)


def test_float64(tmp_path: Path) -> None:
    model = ai3.swap_backend(Net().eval(), dtype="float64")
    model.save(tmp_path / "net")
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 5))
    np.testing.assert_array_equal(ai3.load(tmp_path / "net")(x)["out"], model(x)["out"])


def test_no_torch_is_needed(saved: tuple[ai3.Model, Path], tmp_path: Path) -> None:
    model, path = saved
    x = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import sys, numpy, ai3
result = ai3.load({str(path)!r})(numpy.load({str(tmp_path / "x.npy")!r}))
assert "torch" not in sys.modules
numpy.save({str(tmp_path / "y.npy")!r}, result["out"])
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(x)["out"])


def test_what_is_no_model_is_refused(saved: tuple[ai3.Model, Path], tmp_path: Path) -> None:
    _, path = saved
    whole = path.read_bytes()
    for length in (0, 1, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="cannot be loaded"):
            ai3.load(path)
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(FileError, match="no safetensors file"):
        ai3.load(path)
    save_file({"weight": np.zeros(3, "float32")}, path)
    with pytest.raises(FileError, match="no graph"):
        ai3.load(path)
    with pytest.raises(FileNotFoundError):
        ai3.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d["nodes"][0].update(op="eval"), "operation 'eval'"),
        (lambda d: d["nodes"][-1].update(inputs=["nowhere"]), "nowhere"),
        (lambda d: d["nodes"][-1].update(name=d["nodes"][0]["name"]), "taken"),
        (lambda d: d["nodes"][-1].update(algorithm="magic"), "'magic' of flatten"),
        (lambda d: d["nodes"][0].update(weights=["lost"]), "'lost' is missing"),
        (lambda d: d["nodes"][0].update(weights=5), "damaged"),
        (lambda d: d.update(outputs=["lost"]), "outputs that no node makes"),
        (lambda d: d.update(structure=7), "no output 7"),
        (lambda d: d.pop("nodes"), "damaged"),
        (
            lambda d: d["nodes"][-1]["attributes"].update(
                start_dim={"function": "os.system", "arguments": ["false"]}
            ),
            "function 'os.system'",
        ),
        (
            lambda d: d.update(structure={"kind": "record", "name": "X(", "parts": [["a b", 0]]}),
            "damaged",
        ),
    ],
)
def test_a_damaged_graph_is_told(saved: tuple[ai3.Model, Path], change: Any, message: str) -> None:
    _, path = saved
    rewrite(path, change)
    with pytest.raises(FileError, match=message):
        ai3.load(path)
