"""Algorithms in C++ files that are compiled while the program runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ai3
from ai3 import _core, compiled
from ai3.algorithms import REGISTERED
from ai3.validation.case import Randomly
from ai3.validation.cases import SUITES
from ai3.validation.trial import Trial, arrays_of
from test import test_custom

CONV2D = f"""
#include "ops/conv2d/op.hpp"
BEFORE
namespace ai3::custom {{
{test_custom.CONV2D.replace("T(1000)", "T(ADDED)")}
}}
"""

RELU = """
#include <stdexcept>

#include "ops/relu/op.hpp"

namespace ai3::custom {
inline void relu(const Relu& p, const float* input, float* output) {
    parallel_for(p.threads, elements(p.shape), [&](Index i, int) {
        if (input[i] == 13) throw std::runtime_error("thirteen");
        output[i] = input[i] > 0 ? input[i] : -7;
    });
}
}
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI3_CACHE_DIR", str(folder))
        yield folder


pytestmark = pytest.mark.usefixtures("forgotten")


def written(folder: Path, text: str, added: str = "0", before: str = "") -> Path:
    path = folder / "mine.cpp"
    path.write_text(text.replace("ADDED", added).replace("BEFORE", before))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adds nothing; compiled once."""
    return written(tmp_path_factory.mktemp("plain"), CONV2D)


def added_by(name: str) -> float:
    """What the convolution of that name adds to the right result."""
    conv, x = nn.Conv2d(2, 2, 1), torch.randn(1, 2, 3, 3)
    with torch.no_grad():
        model = ai3.swap_backend(conv, {"conv2d": name})
        difference = torch.as_tensor(model(x)) - conv(x)
    assert torch.allclose(difference, difference.mean(), atol=1e-4)
    return round(float(difference.mean()), 2)


def test_a_convolution_and_what_is_kept_of_it(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text("constexpr int own = 5;\n")
    path = written(tmp_path, CONV2D, "own", '#include "own.h"')
    assert ai3.load_algorithm(path, op="conv2d") == "mine"
    assert "mine" in ai3.SUPPORTED_ALGORITHMS["conv2d"]
    assert added_by("mine") == 5
    # Of the same text nothing is compiled, and it takes no time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_compile", None)
        start = time.perf_counter()
        ai3.load_algorithm(path, op="conv2d", name="again")
        assert time.perf_counter() - start < 1
    assert added_by("again") == 5
    # Another text, and another text of what it includes, are others.
    (tmp_path / "own.h").write_text("constexpr int own = 6;\n")
    ai3.load_algorithm(path, op="conv2d")
    assert added_by("mine") == 6 and added_by("again") == 5


def test_in_networks(plain: Path) -> None:
    ai3.load_algorithm(plain, op="conv2d", name="loops")
    for dtype in (torch.float32, torch.float64):
        runs_in_networks("loops", dtype)


def runs_in_networks(name: str, dtype: torch.dtype) -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 4, (3, 2), stride=2, dilation=2, bias=False),
    ).to(dtype)
    x = torch.randn(2, 4, 12, 13, dtype=dtype)
    expected = net(x).detach()
    model = ai3.swap_backend(net, {"conv2d": name}, tuple(x.shape))
    assert [n.algorithm for n in model.profile(x)] == [name, "direct", name]
    torch.testing.assert_close(torch.as_tensor(model(x)), expected, rtol=1e-4, atol=1e-4)
    ai3.swap_conv2d(net, name)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)
    net(x).sum().backward()
    assert net[0].weight.grad is not None


def test_exceptions_and_types(tmp_path: Path) -> None:
    ai3.load_algorithm(written(tmp_path, RELU), op="relu", name="sevens")
    model = ai3.swap_backend(nn.ReLU(), {"relu": "sevens"})
    x = torch.linspace(-10.0, 12.0, 1000)
    wanted = torch.where(x > 0, x, -7.0)
    assert torch.equal(torch.as_tensor(model(x)), wanted)
    x[700] = 13
    for _ in range(3):
        with pytest.raises(RuntimeError, match="thirteen"):
            model(x)
    x[700] = wanted[700]
    assert torch.equal(torch.as_tensor(model(x)), wanted)
    with pytest.raises(ai3.errors.UnsupportedAlgorithmError, match="not written for float64"):
        model(x.double())


def test_what_the_compiler_says(tmp_path: Path) -> None:
    path = written(tmp_path, CONV2D.replace("T total = bias", "T total == bias"))
    with pytest.raises(ai3.errors.CompileError) as caught:
        ai3.load_algorithm(path, op="conv2d")
    first, second = str(caught.value).splitlines()[:2]
    line = 1 + path.read_text()[: path.read_text().index("total ==")].count("\n")
    assert first.startswith(f"{path} is no algorithm: {path.resolve()}:{line}:")
    assert "error:" in first + second and not REGISTERED


@pytest.mark.parametrize(
    ("op", "text", "match"),
    [
        ("conv2d", "void other() {}", r"no function conv2d in namespace ai3::custom; begin with"),
        ("conv2d", "void conv2d(int);", r"no function conv2d in namespace ai3::custom"),
        ("conv3d", CONV2D, r"operation of a C\+\+ algorithm: 'conv3d'.*'conv2d'"),
        ("sort", CONV2D, r"operation of a C\+\+ algorithm: 'sort'.*'relu'"),
    ],
)
def test_what_is_no_algorithm(tmp_path: Path, op: str, text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ai3.load_algorithm(written(tmp_path, text), op=op)
    with pytest.raises(OSError, match="nowhere"):
        ai3.load_algorithm(tmp_path / "nowhere.cpp", op="conv2d")


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, CONV2D, "99")
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(ai3.errors.CompileError, match="CXX names 'no-such-compiler'"):
        ai3.load_algorithm(path, op="conv2d")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ai3.errors.CompileError, match="apt install"):
        ai3.load_algorithm(path, op="conv2d")


MOVED = {"concat", "expand_depthwise", "interleave", "pointwise", "reorder"}
"""What passes make, or only moves elements."""


def test_operations_without_a_header_take_values_of_any_dtype() -> None:
    """All that compute with floating-point numbers can be replaced."""
    for op in ai3.SUPPORTED_ALGORITHMS.keys() - set(compiled.operations()) - MOVED:
        trial = Trial(SUITES[op].draw(Randomly(1), op), "float32")
        inputs, weights = arrays_of(trial)
        specs = [_core.Spec("int64", x.shape) for x in inputs]
        _core.problem(op, specs, _core.Weights.of(weights), dict(trial.case.attributes))


@pytest.mark.thorough
@pytest.mark.parametrize("op", compiled.operations())
def test_every_operation(op: str, tmp_path: Path) -> None:
    """The headers as they are, but that the function writes: it is the one that runs."""
    text = (compiled.PACKAGE / "custom" / f"{op}.hpp").read_text().replace("#pragma once", "")
    body = "{ std::fill_n(output, elements(problem.output().shape), T(42)); }"
    name = ai3.load_algorithm(written(tmp_path, text.replace("= delete;", body)), op=op)
    trial = Trial(SUITES[op].draw(Randomly(1), op), "float32")
    inputs, weights = arrays_of(trial)
    call = _core.Call(op, dict(trial.case.attributes), name)
    call.set_weights(_core.Weights.of(weights))
    assert (np.asarray(call(*inputs)) == 42).all()


def test_what_a_file_says_of_its_function(tmp_path: Path) -> None:
    said = """
template <> constexpr bool takes_layouts<Relu> = true;
std::string refusal(const Relu& p) { return p.shape.size() > 4 ? "it is too deep" : ""; }
double cost(const Relu& p) { return p.shape.size() == 2 ? 1 : 1 / 0.0; }
std::size_t workspace_bytes(const Relu& p) { return sizeof(float) * std::size_t(p.size); }
template <typename T>
void relu(const Relu& p, const T* input, T* output, std::byte* workspace) {
    T* copy = reinterpret_cast<T*>(workspace);
    for (Index i = 0; i < p.size; ++i) copy[i] = -7;
    for (Index i = 0; i < p.size; ++i) output[i] = input[i] > 0 ? input[i] : copy[i];
}
"""
    text = f'#include "ops/relu/op.hpp"\nnamespace ai3::custom {{{said}}}\n'
    ai3.load_algorithm(written(tmp_path, text), op="relu")

    def problem(*shape: int, layout: str = "dense") -> Any:
        return _core.problem("relu", [_core.Spec("float32", shape, layout)])

    assert problem(1, 1, 1, 1, 1).refusal("mine") == "it is too deep"
    assert not problem(1, 5, 2, 2, layout="blocked").refusal("mine")
    assert problem(2, 3).resolve("default") == "mine"
    assert problem(3).resolve("default") == "direct"
    assert problem(3).workspace_bytes("mine") == 12
    x = torch.tensor([[1.0, -1.0]])
    assert torch.as_tensor(ai3.swap_backend(nn.ReLU())(x)).tolist() == [[1, -7]]


def test_the_environment_loads_files(plain: Path, tmp_path: Path) -> None:
    python = tmp_path / "taps.py"
    python.write_text(
        'import ai3\n@ai3.algorithm("relu", "ours")\ndef ours(problem, x, y): y[:] = abs(x)\n'
    )
    code = (
        "import ai3; print('mine' in ai3.SUPPORTED_ALGORITHMS['conv2d'], "
        "'ours' in ai3.SUPPORTED_ALGORITHMS['relu'])"
    )

    def run(*paths: Any) -> Any:
        own = {**os.environ, "AI3_ALGORITHMS": os.pathsep.join(map(str, paths))}
        return subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True)

    both = run(plain, python)
    assert both.stdout.strip() == "True True", both.stderr
    assert not both.stderr
    # What cannot be loaded is said once, and stops nothing.
    python.write_text("import ai3\nraise KeyError('broken')\n")
    one = run(python, plain, tmp_path / "nowhere.py")
    assert one.stdout.strip() == "True False"
    assert one.stderr.count("KeyError('broken')") == 1 and one.stderr.count("nowhere.py") >= 1
