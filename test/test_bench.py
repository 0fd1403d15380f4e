"""The benchmarks run, and what they report is what happened."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ai3
from bench import measure, report
from bench.case import Result

ROOT = Path(__file__).parent.parent


def bench(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "--seconds", "0.01", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


class TestMeasure:
    def test_medians_and_ratios(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0

        def side(seconds: float) -> Callable[[], torch.Tensor]:
            calls = 0

            def call() -> torch.Tensor:
                nonlocal now, calls
                calls += 1
                now += seconds * (50 if calls % 10 == 0 else 1)  # now and then an interruption
                return torch.ones(1)

            return call

        monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
        timings = measure.compare({"slow": side(0.004), "fast": side(0.001)}, seconds=1)
        assert timings["slow"].seconds == pytest.approx(0.004)
        assert timings["slow"].ratio == 1
        assert timings["fast"].seconds == pytest.approx(0.001)
        assert timings["fast"].ratio == pytest.approx(4)

    def test_sides_take_turns(self) -> None:
        order = []

        def side(name: str) -> Callable[[], torch.Tensor]:
            def call() -> torch.Tensor:
                if not order or order[-1] != name:
                    order.append(name)
                time.sleep(0.0005)
                return torch.ones(1)

            return call

        measure.compare({"a": side("a"), "b": side("b")}, seconds=0.01)
        assert len(order) >= 2 * 3
        assert order == ["a", "b"] * (len(order) // 2)

    @pytest.mark.parametrize(
        "wrong", [torch.ones(2), torch.tensor([1.001]), torch.tensor([torch.nan])]
    )
    def test_wrong_results_are_not_timed(self, wrong: torch.Tensor) -> None:
        calls = []

        def side() -> torch.Tensor:
            calls.append(wrong)
            return wrong

        with pytest.raises(measure.WrongResultError, match="wrong"):
            measure.compare({"right": lambda: torch.ones(1), "wrong": side})
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "seconds, text",
        [
            (12.3, "12.3 s"),
            (1, "1.00 s"),
            (0.1234, "123 ms"),
            (0.00999, "9.99 ms"),
            (1.5e-5, "15.0 us"),
            (2e-7, "0.20 us"),
        ],
    )
    def test_duration(self, seconds: float, text: str) -> None:
        assert report.duration(seconds) == text


class TestCommand:
    def test_writes_and_compares(self, tmp_path: Path) -> None:
        figures, picture = tmp_path / "figures.json", tmp_path / "chart.png"
        ran = bench("bench.layers.relu", "--json", str(figures), "--png", str(picture))
        assert ran.returncode == 0, ran.stderr
        assert max(map(len, ran.stdout.splitlines()[2:])) <= 80
        assert picture.read_bytes().startswith(b"\x89PNG")

        document = json.loads(figures.read_text())
        assert document["machine"]["threads"] == torch.get_num_threads()
        results = [Result(**row) for row in document["results"]]
        sides = {result.side for result in results}
        assert {"torch", *ai3.SUPPORTED_ALGORITHMS["relu"]} <= sides
        for result in results:
            assert result.seconds > 0
            assert result.side in ran.stdout

        again = bench("bench.layers.relu", "--compare", str(figures), "--threads", "1")
        assert again.returncode == 0, again.stderr
        assert "gain" in again.stdout
        assert "1 thread" in again.stdout

    def test_every_layer_has_cases(self) -> None:
        from bench import layers

        assert set(layers.NAMES) == {*ai3.layers.names(), "call_overhead"}

    def test_call_overhead(self) -> None:
        ran = bench("bench.layers.call_overhead")
        assert ran.returncode == 0, ran.stderr
        assert "inference mode" in ran.stdout
        assert "with gradients" in ran.stdout

    @pytest.mark.parametrize("suite", ["swap_conv2d", "swap_backend"])
    def test_network(self, suite: str) -> None:
        ran = bench(f"bench.{suite}.squeezenet")
        assert ran.returncode == 0, ran.stderr
        for side in ("torch", *ai3.SUPPORTED_ALGORITHMS["conv2d"]):
            assert side in ran.stdout

    def test_unknown_name(self) -> None:
        ran = bench("bench.layers.conv3d")
        assert ran.returncode == 1
        assert "did you mean 'conv2d'?" in ran.stderr
