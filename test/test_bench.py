"""The benchmarks run, and what they report is what happened."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import ai3
from ai3.columns import plain
from ai3.machine import State, Watch
from ai3.ops import ON_CPU
from ai3.validation import shapes
from bench import accuracy, measure, report
from bench.case import Result
from bench.layers.shapes import NETWORKS, of_network

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

        monkeypatch.setattr(time, "perf_counter", lambda: now)
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

    def test_states_of_the_machine_are_kept_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Turns are slow while the processors share a core; one block begins in one state and ends
        in the other."""
        now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: now)
        states = {"apart": State(1.0, 2.0, 2), "shared": State(1.0, 1.0, 2)}

        def is_shared() -> bool:
            return 0.2 < now < 0.9

        def call() -> torch.Tensor:
            nonlocal now
            now += 0.02 if is_shared() else 0.01
            return torch.ones(1)

        watch = Watch(2, lambda threads: states["shared" if is_shared() else "apart"], lambda: now)
        timings = measure.compare({"a": call}, seconds=3, pause=1e-9, watch=watch)
        assert timings["a"].state == "apart" and timings["a"].seconds == pytest.approx(0.01)
        assert 0.1 < timings["a"].dropped < 0.5
        assert timings["a"].idle == pytest.approx(0.01) and timings["a"].first is not None

    def test_a_machine_that_never_stays_in_a_state_is_told(self) -> None:
        states = itertools.cycle([State(1.0, 2.0, 2), State(1.0, 1.0, 2)])
        clock = itertools.count()  # nothing is ever fresh
        watch = Watch(2, lambda threads: next(states), lambda: float(next(clock)))
        timing = measure.compare({"a": lambda: torch.ones(1)}, seconds=0.01, watch=watch)["a"]
        assert timing.state == "mixed" and timing.seconds > 0

    def test_calls_after_a_pause_and_the_first(self) -> None:
        calls = 0

        def call() -> torch.Tensor:
            nonlocal calls
            calls += 1
            time.sleep(0.03 if calls == 1 else 0.001)
            return torch.ones(1)

        timing = measure.compare({"a": call}, seconds=0.01, pause=0.001)["a"]
        assert timing.first is not None and timing.first > 0.03
        assert timing.idle is not None and 0.001 < timing.idle < 0.02
        assert measure.compare({"a": call}, seconds=0.01)["a"].idle is None

    def test_states_are_printed(self) -> None:
        def result(case: str, state: str, seconds: float = 1.0, dropped: float = 0.0) -> Result:
            return Result("g", case, "a", seconds, 1.0, state=state, dropped=dropped)

        results = [result("1", "apart"), result("2", "shared", dropped=0.5)]
        told = report.states(results)
        assert "a core for each thread in 1, threads share a core in 1 of 2 cases" in told
        assert "25% of turns dropped" in told
        assert report.states([result("1", "")]) == ""
        before = {r.key: r for r in (result("1", "apart", 2.0), result("2", "apart", 2.0))}
        text = plain(report.table(results, before))
        assert "2.00x" in text and "was apart" in text

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
        lines = ran.stdout.splitlines()[2:]
        assert max(len(line) for line in lines if not line.startswith("wrote")) <= 80
        assert picture.read_bytes().startswith(b"\x89PNG")

        document = json.loads(figures.read_text())
        assert document["machine"]["threads"] == torch.get_num_threads()
        results = [Result(**row) for row in document["results"]]
        sides = {result.side for result in results}
        assert {"torch", *ON_CPU["relu"]} <= sides
        for result in results:
            assert result.seconds > 0
            assert result.side in ran.stdout

        again = bench("bench.layers.relu", "--compare", str(figures), "--threads", "1")
        assert again.returncode == 0, again.stderr
        assert "gain" in again.stdout
        assert "1 thread" in again.stdout

    def test_names_that_only_other_operations_have_are_passed_over(self, tmp_path: Path) -> None:
        figures = tmp_path / "figures.json"
        asked = ("--algorithms", "strassen,direct", "--json", str(figures))
        ran = bench("bench.layers.relu", *asked)
        assert ran.returncode == 0, ran.stderr
        results = [Result(**row) for row in json.loads(figures.read_text())["results"]]
        assert {result.side for result in results} - {"torch"} >= {"direct"}
        assert "strassen" not in {result.side for result in results}
        ran = bench("bench.layers.softmax", "--algorithms", "strassen")
        assert ran.returncode == 0 and "softmax" not in ran.stdout, ran.stderr

    @pytest.mark.parametrize("op", ["conv2d", "conv2d_grad_weight", "softmax", "call_overhead"])
    def test_all_algorithms_of_whatever_operation(self, op: str) -> None:
        from bench import layers

        every = dict.fromkeys(name for names in ON_CPU.values() for name in names)
        case = next(layers.cases(op, list(every)))
        own = ON_CPU.get(op, ON_CPU["conv2d"])
        assert case.sides.keys() - set(case.baseline) <= set(own)

    def test_every_layer_has_cases(self) -> None:
        from bench import layers
        from bench.layers import functions, gradients

        assert set(layers.NAMES) == {
            *ai3.layers.names(),
            *gradients.NAMES,
            *functions.WORK,
            "call_overhead",
        }

    def test_call_overhead(self) -> None:
        ran = bench("bench.layers.call_overhead")
        assert ran.returncode == 0, ran.stderr
        assert "inference mode" in ran.stdout
        assert "with gradients" in ran.stdout

    @pytest.mark.thorough
    def test_network(self) -> None:
        ran = bench("bench.swap_conv2d.squeezenet")
        assert ran.returncode == 0, ran.stderr
        for side in ("torch", *ON_CPU["conv2d"]):
            assert side in ran.stdout

    @pytest.mark.thorough
    def test_network_against_peers(self) -> None:
        arguments = ["--batches", "1,2", "--thread-counts", "1", "--algorithms", "smm"]
        ran = bench("bench.swap_backend.squeezenet", *arguments)
        assert ran.returncode == 0, ran.stderr
        assert "squeezenet, 1x3x224x224, 1 thread" in ran.stdout
        assert "squeezenet, 2x3x224x224, 1 thread" in ran.stdout
        for side in ("torch", "ai3", "smm", "geometric mean", "after idle", "first call"):
            assert side in ran.stdout
        for peer, package in {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}.items():
            assert f"{peer} is left out: no {package}" in ran.stdout or find_spec(package)

    def test_accuracy(self) -> None:
        found = accuracy.errors("simple_created", images=8)
        for largest, error, same in (found["ai3 float32"], found["ai3 bfloat16"]):
            assert 0 < largest < 1e-2 and 0 < error < 1e-2 and 0.5 < same <= 1
        assert found["ai3 float32"][1] < 1e-6

    @pytest.mark.thorough
    def test_sets_of_shapes(self, tmp_path: Path) -> None:
        figures, picture = tmp_path / "figures.json", tmp_path / "chart.png"
        sets = ("resnet18", "squeezenet1_1")
        arguments = ["--set", ",".join(sets), "--algorithms", "direct,winograd,guess", "--error"]
        ran = bench(
            "bench.layers", *arguments, "--json", str(figures), "--png", str(picture), "--scaling"
        )
        assert ran.returncode == 0, ran.stderr
        assert max(map(len, ran.stdout.splitlines()[1:-3])) <= 80
        results = [Result(**row) for row in json.loads(figures.read_text())["results"]]
        for name in sets:
            picture = tmp_path / f"chart-{name}.png"
            assert picture.read_bytes().startswith(b"\x89PNG")
            convs = {str(conv): conv for conv in shapes.load()[name].convs}
            assert {result.case for result in results if result.group == name} == {*convs}
            for result in results:
                if result.group == name and result.side == "direct":
                    conv = convs[result.case]
                    assert result.times == conv.times
                    assert result.gflops == pytest.approx(conv.flops / result.seconds / 1e9)
        # What is refused is not measured, and shown as such.
        line = next(line for line in ran.stdout.splitlines() if "3@224 64 7x7/2" in line)
        assert line.split()[-2] == "-"
        assert "time, that of the fastest algorithm is 1" in ran.stdout
        done = {result.case for result in results if result.side == "winograd"}
        assert done and all(" 3x3" in case or " 5x5" in case for case in done)
        assert all(result.error is not None and result.error < 1e-5 for result in results)
        assert ("one thread is 1" in ran.stdout) == (torch.get_num_threads() > 1)

        again = bench(
            "bench.layers.conv2d", "--set", "resnet18", "--compare", str(figures), *arguments[2:4]
        )
        assert again.returncode == 0, again.stderr
        assert "that of the older figures is 1" in again.stdout

    @pytest.mark.thorough
    @pytest.mark.parametrize("gradient", ["conv2d_grad_input", "conv2d_grad_weight"])
    def test_gradients_of_sets(self, gradient: str, tmp_path: Path) -> None:
        figures = tmp_path / "figures.json"
        ran = bench(
            f"bench.layers.{gradient}",
            *("--set", "resnet18", "--algorithms", "default,direct", "--error"),
            *("--seconds", "0.001", "--json", str(figures)),
        )
        assert ran.returncode == 0, ran.stderr
        assert f"{gradient}, resnet18: speed" in ran.stdout
        results = [Result(**row) for row in json.loads(figures.read_text())["results"]]
        assert {result.group for result in results} == {f"{gradient}, resnet18"}
        assert {result.case for result in results} == {
            str(conv) for conv in shapes.load()["resnet18"].convs
        }
        assert {result.side for result in results} >= {"torch", "default", "direct"}
        assert all(result.error is not None and result.error < 1e-5 for result in results)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_sets_are_what_the_networks_do(self, name: str) -> None:
        stored = shapes.load()[name].convs
        assert stored == of_network(name)
        assert len({str(conv) for conv in stored}) == len(stored)

    def test_a_case_that_takes_long_is_measured_a_few_times(self) -> None:
        calls = []

        def side() -> torch.Tensor:
            calls.append(time.sleep(0.02))
            return torch.ones(1)

        measure.compare({"a": side}, seconds=0.01)
        assert len(calls) < 12

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["bench.layers", "--set", "vgg17"], "there is no 'vgg17', only all, seeds"),
            (["bench.layers", "--algorithms", "dirct"], "there is no 'dirct', only all, "),
            (["bench.layers.relu", "--set", "vgg16"], "unrecognized arguments"),
        ],
    )
    def test_unknown_choice(self, arguments: list[str], message: str) -> None:
        ran = bench(*arguments)
        assert ran.returncode == 2
        assert message in ran.stderr

    def test_unknown_name(self) -> None:
        ran = bench("bench.layers.conv3d")
        assert ran.returncode == 1
        assert "did you mean 'conv2d'?" in ran.stderr
