"""The package as a whole: what importing it costs, its threads, its types."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ai3
from ai3 import _core
from ai3.ops import ON_CPU
from ai3.platforms import names as names_on_platforms
from ai3.platforms.sycl import runtime
from runners import docs, stub


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    import os

    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_import_is_fast_and_leaves_torch_alone() -> None:
    code = (
        "import time; start = time.process_time(); import ai3; took = time.process_time() - start;"
        "import sys; print('torch' in sys.modules, took)"
    )
    runs = [python(code).split() for _ in range(3)]
    assert {torch for torch, _ in runs} == {"False"}
    assert min(float(took) for _, took in runs) < 0.4


def test_models_run_without_torch() -> None:
    code = (
        "import ai3, numpy as np, sys;"
        "conv = ai3.layers.Conv2D(np.ones((2, 1, 3, 3), np.float32));"
        "model = ai3.Model([conv, ai3.layers.ReLU()]);"
        "y = model(np.ones((1, 1, 5, 5), np.float32));"
        "print(type(y).__name__, float(y.sum()), 'torch' in sys.modules)"
    )
    assert python(code) == "ndarray 162.0 False"


@pytest.mark.parametrize("first", ["ai3", "torch"])
def test_one_thread_pool_with_torch(first: str) -> None:
    second = "torch" if first == "ai3" else "ai3"
    code = (
        f"import {first}, {second};"
        "import torch, ai3, ai3._core as core;"
        "ai3.layers.ReLU()(torch.ones(1 << 20)); torch.ones(1 << 20).relu();"
        "maps = open('/proc/self/maps').read().split();"
        "print(len({m for m in maps if 'gomp' in m or 'iomp' in m}))"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc")
    assert python(code) == "1"


def test_threads_follow_torch_and_openmp() -> None:
    assert python("import ai3._core as c; print(c.max_threads())", OMP_NUM_THREADS="3") == "3"
    code = (
        "import torch, ai3._core as c; torch.set_num_threads(5); print(c.max_threads(), end=' ');"
        "import threading; from ai3 import arrays;"
        "work = lambda: (arrays.follow_torch_threads(), print(c.max_threads(), end=''));"
        "t = threading.Thread(target=work); t.start(); t.join()"
    )
    assert python(code) == "5 5"


@pytest.mark.parametrize("policy", ["active", "passive"])
@pytest.mark.parametrize("threads", [2, 3, 9])
def test_runs_at_a_time_share_their_loops(threads: int, policy: str) -> None:
    code = (
        "import torch, threading, ai3; from torch import nn; torch.manual_seed(0);"
        "convs = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)];"
        "model = ai3.swap_backend(nn.Sequential(*convs)); x = torch.randn(1, 16, 40, 40);"
        "torch.set_num_threads(1); expected = model(x);"
        f"torch.set_num_threads({threads});"
        "results = [];"
        "work = lambda: results.extend(torch.equal(model(x), expected) for _ in range(20));"
        "workers = [threading.Thread(target=work) for _ in range(3)];"
        "[w.start() for w in workers]; [w.join() for w in workers];"
        "print(len(results), all(results))"
    )
    assert python(code, OMP_WAIT_POLICY=policy) == "60 True"


@pytest.mark.parametrize("isa", _core.levels)
def test_environment_chooses_the_instruction_set(isa: str) -> None:
    code = (
        "import ai3._core as c, numpy as np, ai3;"
        "y = ai3.layers.Conv2D(np.ones((1, 1, 2, 2)))(np.ones((1, 3, 3)));"
        "print(c.isa, y.sum())"
    )
    assert python(code, AI3_ISA=isa) == f"{isa} 16.0"


def test_unknown_instruction_set_is_told() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import ai3"],
        capture_output=True,
        text=True,
        env={"AI3_ISA": "mmx", "PATH": ""},
    )
    assert "AI3_ISA is 'mmx', but this machine can run" in ran.stderr


def test_stub_of_the_core_is_up_to_date() -> None:
    assert stub.STUB.read_text() == stub.generate(), "run python -m runners.stub"


def test_copies_of_the_core_have_the_same_algorithms() -> None:
    assert _core.algorithms() == ON_CPU
    assert set(ai3.SUPPORTED_ALGORITHMS) >= {
        "conv2d",
        "linear",
        "maxpool2d",
        "avgpool2d",
        "adaptiveavgpool2d",
        "relu",
        "flatten",
    }
    assert all(names[-1] == "default" for names in ai3.SUPPORTED_ALGORITHMS.values())


def test_algorithms_of_all_platforms_are_supported() -> None:
    assert set(ai3.SUPPORTED_ALGORITHMS["conv2d"]) >= {
        *("direct", "smm", "winograd", "gemm", "implicit gemm", "implicit precomp gemm"),
        *("guess", "mps", "metal", "default"),
    }
    for op, names in ai3.SUPPORTED_ALGORITHMS.items():
        assert len(set(names)) == len(names)
        assert set(names) >= {*ON_CPU[op], *names_on_platforms(op)}


def test_platforms_are_imported_when_their_names_are_asked_for() -> None:
    code = (
        "import sys, ai3\n"
        "def loaded(): return {n.split('.')[2] for n in sys.modules if 'ai3.platforms.' in n}\n"
        "assert loaded() <= {'platform', 'sycl'}, loaded()\n"
        "assert 'SUPPORTED_ALGORITHMS' in dir(ai3)\n"
        "assert 'metal' in ai3.SUPPORTED_ALGORITHMS['conv2d']\n"
        "assert {'cuda', 'mps'} <= loaded()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_platforms_that_are_not_there_are_not_claimed() -> None:
    assert ai3.using_sycl() == (not runtime.missing())
    assert not ai3.using_cudnn()
    assert not ai3.using_cublas()
    assert not ai3.using_mps_and_metal()


def test_measured_peak_is_plausible() -> None:
    assert 0.5 < _core.fma_peak("float32", 1) < 1000


def test_readme_trains_and_restores() -> None:
    section = docs.FILES[0].read_text().partition("## Train and compile")[2]
    snippet = section.partition("```python")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert type(names["network"][0]) is type(names["network"][2]) is names["torch"].nn.Conv2d
    assert names["network"][0].weight.grad.abs().sum() > 0


def test_platforms_are_told_as_they_are() -> None:
    text = docs.FILES[1].read_text()
    exec(text.partition("```python")[2].partition("```")[0], {})


def test_readme_tells_the_registrys_algorithms() -> None:
    for file in docs.FILES:
        text = file.read_text()
        assert text == docs.generate(text), f"run python -m runners.docs, for {file.name}"
