"""What runs on a machine with a GPU, as far as it goes on devices that the tests bring: to the end
of both scripts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves as leaves

from ai3.torch import device_tuning
from ai3.validation import shapes
from bench.gpu import algorithms, bench, test
from bench.gpu.place import Place
from runners import networks
from test.platforms import stand_in
from test.platforms.stand_in import OnMirror

DEVICE = "mirror:1"
LONG = ["--seconds", "100000"]


class Replays(TorchDispatchMode):
    """In the place of a CUDA graph: the operators of torch's that ran, which run again."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Any] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        self.ran.append((function, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for function, args, kwargs, found in self.ran:
            pairs = zip(leaves(found), leaves(function(*args, **kwargs)), strict=True)
            for before, again in pairs:
                if isinstance(again, torch.Tensor) and again is not before:
                    before.copy_(again)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OnMirror]:
    stream = SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def graph(made: Replays) -> Iterator[None]:
        with made:
            yield

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        yield

    for name, value in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": on,
        "synchronize": lambda *_: None,
        "CUDAGraph": Replays,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda net, mode="", **more: compiled(net, backend="eager", **more)
    )
    monkeypatch.setattr(networks, "NETWORKS", {"small": (lambda _: small(), (2, 3, 9, 8))})
    monkeypatch.setattr(networks, "SMALL", {})
    every = algorithms.cases
    monkeypatch.setattr(algorithms, "cases", lambda place: islice(every(place), 0, 900, 75))
    monkeypatch.setattr(test, "PROCESSES", 1)
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with stand_in.available() as platform, platform.guard(torch.device(DEVICE)):
        yield platform


TOOL = """#!{python}
import os, sys
print("========= COMPUTE-SANITIZER")
assert os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1" and "--own" in sys.argv
print('{told}')
print("========= ERROR SUMMARY: 0 errors")
sys.exit({code})
"""


def tool(folder: Path, told: str, code: int) -> None:
    path = folder / "compute-sanitizer"
    path.write_text(TOOL.format(python=sys.executable, told=told, code=code))
    path.chmod(0o755)


def test_gputest_to_its_end(
    cuda: OnMirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool(tmp_path, '{"tried": 3, "faults": []}', 0)
    status = test.main(LONG, DEVICE)
    found = json.loads((tmp_path / "gputest.json").read_text())
    assert {n: c["faults"] for n, c in found["checks"].items() if c["faults"]} == {}
    assert status == 0 and found["gpu"] == "a mirror"
    assert list(found["checks"]) == [*test.CHECKS, "compute-sanitizer"]
    assert all(each["tried"] for each in found["checks"].values())
    assert "streams: " in capsys.readouterr().out


def test_what_is_wrong_is_told(cuda: OnMirror, tmp_path: Path) -> None:
    tool(tmp_path, '{"tried": 3, "faults": ["a fault"]}', 9)
    assert test.sanitized(30)["faults"] == ["a fault"]
    tool(tmp_path, "nothing of use", 9)
    assert "a process ended early" in test.sanitized(30)["faults"][0]

    def broken(place: Place) -> None:
        raise KeyError("this")

    def slow(place: Place) -> None:
        place.expect(True, "")
        while True:
            pass

    place = Place(cuda, DEVICE, 0.0)
    assert "KeyError: 'this'" in test.done(place, "broken", broken)["faults"][0]
    assert test.done(Place(cuda, DEVICE, 0.0), "none", lambda place: None)["faults"]
    ended = test.done(Place(cuda, DEVICE, 0.0), "slow", slow)
    assert not ended["ended"] and ended["tried"] == 1 and not ended["faults"]


def test_cases_may_be_shared_by_processes(
    cuda: OnMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert algorithms.main(["--part", "1", "--of", "3", "--own"], DEVICE) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    tool(tmp_path, '{"tried": 2, "faults": []}', 0)
    fake = tmp_path / "python"
    fake.write_text((tmp_path / "compute-sanitizer").read_text().replace("assert", "#"))
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    place = Place(cuda, DEVICE, float("inf"), processes=3)
    monkeypatch.setattr(Place, "left", 10.0)
    algorithms.shared(place)
    assert place.faults and "ended early" in place.faults[0]  # its last line is no JSON


def test_gpubench_to_its_end(
    cuda: OnMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convs = [shapes.Conv(4, 6, 6, 5, 3, 3, padding=1)]
    monkeypatch.setattr(bench, "convolutions", lambda: (convs, convs))
    monkeypatch.setattr(bench, "BATCH", 1)
    for name in ("WARM_UPS", "ROUNDS", "REPEATS", "CALLS"):
        monkeypatch.setattr(bench, name, 1)
    for name in ("_CALLS", "_ROUNDS"):
        monkeypatch.setattr(device_tuning, name, 1)
    monkeypatch.setenv("AI3_CACHE_DIR", "is set anew")
    status = bench.main(LONG, DEVICE)
    found = json.loads((tmp_path / "gpubench.json").read_text())
    assert found["faults"] == {} and status == 0
    assert all(found[name] for name in bench.SHARES)
    assert all(ratio > 0 for ratio in found["ratios"].values())
    assert (tmp_path / "gpubench.png").stat().st_size > 1000


def test_without_a_gpu_they_say_so() -> None:
    if torch.version.cuda is not None:
        pytest.skip("this torch may have one")
    for module in ("bench.gpu.test", "bench.gpu.bench"):
        ran = subprocess.run(
            [sys.executable, "-m", module],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert ran.returncode == 2 and "needs a GPU: this torch" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
