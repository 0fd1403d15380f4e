"""What tuning gains, how long it takes, whether it agrees with itself: `python -m bench.tuning`.

Each network is tuned twice, from an empty cache each time; then what is untuned, the first choice
and the second take turns, in blocks of which it is known in which state the machine was.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import ai3
from ai3 import machine
from ai3.errors import BudgetError
from ai3.plan import Plan
from ai3.tuning import database
from ai3.tuning.network import pinned
from bench import measure
from bench.swap_backend import peers
from runners.networks import load

NETWORKS = (
    *("vgg16", "resnet18", "resnet50", "mobilenet"),
    *("densenet", "squeezenet", "googlenet", "efficientnet"),
)
SHARING = ("resnet50", "resnet")
"""A network, and one all of whose problems it has."""

PARTS = ("gain", "sharing", "memory", "accuracy", "opening")
BLOCKS, BLOCK_SECONDS = 12, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tuning")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="for the gain")
    parser.add_argument("--seconds", type=float, default=60, help="that tuning may take")
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    console = Console()
    console.print(f"{machine.processor()}, {ai3._core.isa}, {machine.state()}", highlight=False)
    measure.keep_freed_memory()
    figures: dict[str, Any] = {}
    parts: Mapping[str, Callable[[], tuple[Table, Any]]] = {
        "gain": lambda: gain(options.networks.split(","), options.seconds),
        "sharing": lambda: sharing(options.seconds),
        "memory": lambda: memory(options.seconds),
        "accuracy": lambda: accuracy(options.seconds),
        "opening": opening,
    }
    for part in options.parts.split(","):
        table, figures[part] = parts[part]()
        console.print(table, highlight=False)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def gain(names: Sequence[str], seconds: float) -> tuple[Table, Any]:
    """Untuned against tuned, and two tunings against each other."""
    rows = []
    for name in names:
        network = load(name)
        sample = torch.randn(1, *network.input_shape[1:])
        with empty_cache():
            untuned = ai3.swap_backend(network.module)
            untuned(sample)
        tuned, apart = [], 0.0
        for _ in range(2):
            with empty_cache():
                model = ai3.swap_backend(network.module)
                found = model.tune(sample, seconds=seconds)
                tuned.append((model, found))
                if len(tuned) == 2:
                    apart = worst_difference(tuned[0][1].plan, found.plan, model)
        sides = {"untuned": untuned, "first": tuned[0][0], "second": tuned[1][0]}
        for state, times in timed(sides, sample).items():
            rows.append(
                {
                    "network": name,
                    "state": state,
                    "untuned_ms": 1e3 * times["untuned"],
                    "tuned_ms": 1e3 * times["first"],
                    "gain": times["untuned"] / times["first"],
                    "again": times["first"] / times["second"],
                    "layers": apart,
                    "seconds": tuned[0][1].seconds,
                    "kept": tuned[0][1].kept,
                }
            )
    table = view(
        "tuned against untuned, batch 1",
        "",
        "state",
        "untuned",
        "tuned",
        "gain",
        "twice",
        "layers",
        "took",
    )
    for row in rows:
        table.add_row(
            row["network"],
            row["state"],
            f"{row['untuned_ms']:.3g} ms",
            f"{row['tuned_ms']:.3g} ms",
            f"{row['gain']:.3f}x",
            f"{row['again']:.3f}x",
            f"{row['layers']:.1%}",
            f"{row['seconds']:.0f} s",
        )
    gains = [row["gain"] for row in rows]
    if len(gains) > 1:
        table.add_section()
        table.add_row("geomean", "", "", "", f"{statistics.geometric_mean(gains):.3f}x", "", "", "")
        table.add_row("least", "", "", "", f"{min(gains):.3f}x", "", "", "")
    return table, rows


def worst_difference(first: Plan, second: Plan, model: ai3.Model) -> float:
    """By how much the first choice of a layer is slower than the second, at most, by the times that
    the second tuning measured in its own layouts."""
    times = database.opened()
    assert times is not None
    before = {node.name: node.algorithm for node in first.nodes}
    compiled = pinned(model, model._graphs[0], second.parts[0])
    worst = 0.0
    for node in second.nodes:
        problem = compiled.problems.get(node.name)
        if node.op != "conv2d" or problem is None or node.name not in before:
            continue
        known = {row.algorithm: row.seconds for row in database.preferred(times.rows(problem.key))}
        if node.algorithm in known and before[node.name] in known:
            worst = max(worst, known[before[node.name]] / known[node.algorithm] - 1)
    return worst


def sharing(seconds: float) -> tuple[Table, Any]:
    """How long a network takes, and then one that has the same problems."""
    table = view("tuning a network, then one of the same problems", "", "took", "measured", "known")
    rows = []
    with empty_cache():
        for name in SHARING:
            network = load(name)
            model = ai3.swap_backend(network.module)
            sample = torch.randn(1, *network.input_shape[1:])
            found = model.tune(sample, seconds=seconds, check=False)
            rows.append([name, found.seconds, found.measured, found.known, found.stopped])
            table.add_row(name, f"{found.seconds:.1f} s", str(found.measured), str(found.known))
    return table, rows


def memory(seconds: float) -> tuple[Table, Any]:
    """VGG16 within 1.1 times its weights, against the other engines in float32."""
    network = load("vgg16")
    sample = torch.randn(1, *network.input_shape[1:])
    model = ai3.swap_backend(network.module)
    with empty_cache():
        found = model.tune(sample, seconds=seconds, memory="1.1x")
    size = sum(p.numel() * p.element_size() for p in network.module.parameters())
    threads = torch.get_num_threads()
    others, _ = peers.sides(network.module, sample, threads)
    sides = {"ai3": lambda: model(sample), **others}
    table = view('vgg16, memory="1.1x"', "", "state", "time", "against ai3", "memory")
    rows = []
    for state, times in timed_calls(sides).items():
        for name, taken in times.items():
            held = f"{(found.bytes or 0) / size:.3f}x" if name == "ai3" else ""
            table.add_row(
                name, state, f"{1e3 * taken:.3g} ms", f"{taken / times['ai3']:.2f}x", held
            )
            rows.append([name, state, taken, taken / times["ai3"], (found.bytes or 0) / size])
    return table, rows


def accuracy(seconds: float) -> tuple[Table, Any]:
    """What a budget of accuracy leaves of Winograd's tiles, and what it costs."""
    table = view("accuracy=3e-7", "", "error", "costs", "algorithms")
    rows = []
    for name in ("vgg16", "resnet18", "resnet50"):
        network = load(name)
        sample = torch.randn(1, *network.input_shape[1:])
        model = ai3.swap_backend(network.module)
        with empty_cache():
            try:
                found = model.tune(sample, seconds=seconds, accuracy=3e-7)
            except BudgetError as error:
                table.add_row(name, "", "", str(error))
                rows.append([name, str(error)])
                continue
        assert found.plan is not None
        used = sorted({node.algorithm for node in found.plan.nodes if node.op == "conv2d"})
        table.add_row(name, f"{found.error:.2g}", f"{found.cost_ms:.3g} ms", ", ".join(used))
        rows.append([name, found.error, found.cost_ms, used])
    return table, rows


_OPEN = """
import time
import numpy as np
import ai3
from ai3 import _core
spec = _core.Spec("float32", (1, 64, 56, 56))
weights = _core.Weights.of([np.zeros((64, 64, 3, 3), np.float32), None])
problem = _core.problem("conv2d", [spec], weights, {"padding": 1})
started = time.perf_counter()
problem.resolve("default")
print(time.perf_counter() - started)
"""


def opening() -> tuple[Table, Any]:
    """What a process's first choice takes longer where there are measured times."""
    network = load("squeezenet")
    sample = torch.randn(1, *network.input_shape[1:])
    medians = {}
    with empty_cache(), tempfile.TemporaryDirectory() as compiled:
        # What is installed has been compiled by Python before.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for name in ("no file", "a file"):
            command = [sys.executable, "-c", _OPEN]
            taken = [float(subprocess.check_output(command, env=environment)) for _ in range(10)]
            medians[name] = statistics.median(taken[1:])
            if name == "no file":
                ai3.swap_backend(network.module).tune(sample, seconds=10, check=False)
    table = view("the first choice of a process", "", "takes")
    for name, taken in medians.items():
        table.add_row(name, f"{1e3 * taken:.2f} ms")
    return table, medians


def timed(models: Mapping[str, ai3.Model], sample: torch.Tensor) -> dict[str, dict[str, float]]:
    return timed_calls({name: _caller(model, sample) for name, model in models.items()})


def timed_calls(sides: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """By the machine's states the median of each side, of blocks in which they take turns."""
    watch = machine.Watch()
    samples: dict[str, dict[str, list[float]]] = {}
    for call in sides.values():
        call()
    for _ in range(BLOCKS):
        taken: dict[str, list[float]] = {name: [] for name in sides}

        def block(taken: dict[str, list[float]] = taken) -> None:
            end = perf_counter() + BLOCK_SECONDS
            while perf_counter() < end:
                for name, call in sides.items():
                    call()  # the side before has emptied the caches
                    started = perf_counter()
                    call()
                    taken[name].append(perf_counter() - started)

        _, state = watch(block)
        if state == machine.MIXED:
            continue
        of_state = samples.setdefault(state, {name: [] for name in sides})
        for name, values in taken.items():
            of_state[name] += values
    return {
        state: {name: statistics.median(values) for name, values in of.items()}
        for state, of in samples.items()
    }


def _caller(model: ai3.Model, sample: torch.Tensor) -> Callable[[], object]:
    return lambda: model(sample)


@contextmanager
def empty_cache() -> Iterator[None]:
    before = os.environ.get("AI3_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AI3_CACHE_DIR"] = folder
        database.renew()
        try:
            yield
        finally:
            if before is None:
                del os.environ["AI3_CACHE_DIR"]
            else:
                os.environ["AI3_CACHE_DIR"] = before
            database.renew()


def view(title: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    return table


if __name__ == "__main__":
    main()
