"""Networks that `swap_backend` has turned into an `ai3.Model`, against torch and the engines that
people use, at the batch sizes and numbers of threads that are asked for."""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from rich import box
from rich.table import Table

import ai3
from ai3.graph.graph import PRECISIONS
from bench import networks
from bench.case import Case, Result, algorithms_of
from bench.swap_backend import peers
from runners.networks import load

NAMES = networks.NAMES
OURS = "ai3"
PAUSE = 0.06
"""Seconds between the turns of two sides: idle threads of the last one spin for a while."""

EPSILONS = {"float32": 2000, "bfloat16": 500_000}
"""Of float32, see `Case`; those for bfloat16 are eight of its own."""

_options = argparse.Namespace(batches=None, thread_counts=None, precision="float32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--batches", type=numbers, metavar="1,16", help="batch sizes")
    parser.add_argument("--thread-counts", type=numbers, metavar="1,2", help="numbers of threads")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="what ai3 is permitted, and the others are told, to compute in",
    )
    parser.add_argument(
        "--peers", action="store_true", help=f"install {', '.join(peers.PACKAGES)} first"
    )


def prepare(options: argparse.Namespace) -> None:
    """Take the command's options; install what is asked for; say what is missing."""
    global _options
    _options = options
    if options.peers:
        subprocess.run([sys.executable, "-m", "pip", "install", *peers.PACKAGES], check=True)
    for name, package in peers.missing().items():
        print(f"{name} is left out: no {package} (--peers installs it)")


def cases(name: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    """A case for each batch size and number of threads; ai3 by its own choice, and with each of
    the `algorithms` for convolutions."""
    network = load(name)
    before = torch.get_num_threads()
    try:
        for batch in _options.batches or [network.input_shape[0]]:
            for threads in _options.thread_counts or [before]:
                torch.set_num_threads(threads)
                sample = torch.randn(batch, *network.input_shape[1:])
                precision = _options.precision
                others, first = peers.sides(network.module, sample, threads, precision)
                ours = {OURS: ai3.swap_backend(network.module, precision=precision)}
                if precision != "float32":
                    ours[f"{OURS} float32"] = ai3.swap_backend(network.module)
                for algorithm in algorithms_of("conv2d", algorithms or ()):
                    ours[algorithm] = ai3.swap_backend(
                        network.module, {"conv2d": algorithm}, unsupported="direct"
                    )
                sides = others | {key: peers.call(model, sample) for key, model in ours.items()}
                shape = "x".join(map(str, sample.shape))
                title = f"{name}, {shape}, {threads} thread{'s' * (threads > 1)}"
                yield Case(
                    "swap_backend",
                    title,
                    sides,
                    tuple(others),
                    pause=PAUSE,
                    epsilons=EPSILONS[precision],
                    first=first,
                )
    finally:
        torch.set_num_threads(before)


def summary(results: Mapping[str, Sequence[Result]]) -> Iterator[Table]:
    """ai3's speed against the fastest of the others, after a pause too, and against torch, with the
    geometric means."""
    view = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("", "fastest other", "against it", "after idle", "against torch"):
        view.add_column(heading, justify="left" if heading in ("", "fastest other") else "right")
    ratios: list[tuple[float, float, float]] = []
    rows: dict[str, dict[str, Result]] = {}
    for group in results.values():
        for result in group:
            rows.setdefault(result.case, {})[result.side] = result
    for case, sides in rows.items():
        ours, others = sides[OURS], [sides[key] for key in sides if key in peers.NAMES]
        best = min(others, key=lambda r: r.seconds)
        idle = min(r.idle or 0.0 for r in others) / (ours.idle or 1.0)
        torchs = sides[peers.TORCH].seconds / ours.seconds
        ratios.append((best.seconds / ours.seconds, idle, torchs))
        view.add_row(case, best.side, *(f"{ratio:.2f}x" for ratio in ratios[-1]))
    if len(ratios) > 1:
        means = [statistics.geometric_mean(column) for column in zip(*ratios, strict=True)]
        view.add_section()
        view.add_row("geometric mean", "", *(f"{mean:.2f}x" for mean in means))
    yield view
