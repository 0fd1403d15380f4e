"""The command line that all benchmarks share."""

import argparse
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console, RenderableType

import ai3._core
from ai3 import machine as machines
from ai3.ops import ON_CPU
from ai3.progress import progress
from bench import matrix, measure, report
from bench.case import Case, Result


@dataclass(frozen=True)
class Machine:
    """What the figures depend on; `fma_peak` in GFLOP/s of float32 on that many threads."""

    cpu: str
    threads: int
    isa: str
    fma_peak: float
    torch: str
    system: str

    @staticmethod
    def here() -> "Machine":
        threads = torch.get_num_threads()
        return Machine(
            cpu=machines.processor(),
            threads=threads,
            isa=ai3._core.isa,
            fma_peak=max(ai3._core.fma_peak("float32", threads) for _ in range(5)),
            torch=torch.__version__,
            system=platform.platform(),
        )

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        peak = f"FMA peak {self.fma_peak:.0f} GFLOP/s"
        return f"{self.cpu}, {threads}, {self.isa}, {peak}, torch {self.torch}"


class SuiteModule(Protocol):
    """See `bench`."""

    NAMES: Sequence[str]

    def cases(self, name: str, algorithms: Iterable[str] | None) -> Iterator[Case]: ...


def main(program: str, suite: SuiteModule, name: str | None, arguments: list[str]) -> int:
    """Measure the cases of `name`, or of all the suite's names, and print a table for each."""
    sets = tuple(getattr(suite, "SETS", ()))
    add_arguments = getattr(suite, "add_arguments", lambda parser: None)
    over_sets = name is None or name in getattr(suite, "OVER_SETS", ())
    options = _parse(program, name, sets if over_sets else (), arguments, add_arguments)
    getattr(suite, "prepare", lambda options: None)(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    measure.keep_freed_memory()
    machine = Machine.here()
    before = _load(options.compare) if options.compare else None

    console = Console()
    results: dict[str, list[Result]] = {}
    console.print(str(machine), highlight=False)
    for group in options.set or ([name] if name else suite.NAMES):
        found = results[group] = []
        with progress(f"{group} ...") as show:
            for case in suite.cases(group, options.algorithms):
                if options.algorithms and not case.sides.keys() - set(case.baseline):
                    continue  # it has none of them
                show(f"{group}: {case.name} ...")
                found += _measure(case, options, machine, machines.Watch())
        for table in _tables(found, bool(options.set), before) if found else ():
            console.print(table, highlight=False)
        if states := report.states(found):
            console.print(states, highlight=False)
    if len(options.set) > 1:
        for table in matrix.summary(results):
            console.print(table, highlight=False)

    for table in getattr(suite, "summary", lambda results: ())(results):
        console.print(table, highlight=False)

    everything = [result for group in results.values() for result in group]
    if options.json:
        rows = [asdict(result) for result in everything]
        document = {"machine": asdict(machine), "results": rows}
        _write(options.json, lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))
    if options.png:
        for group in options.set:
            path = options.png
            if len(options.set) > 1:
                path = path.with_stem(f"{path.stem}-{group}")
            _write(path, partial(matrix.chart, results[group], f"{group}, {machine}"))
        if not options.set:
            _write(options.png, partial(report.chart, everything, str(machine)))
    return 0


def _tables(
    results: Sequence[Result], as_matrix: bool, before: dict[tuple[str, str, str], Result] | None
) -> Iterator[RenderableType]:
    if not as_matrix:
        yield report.table(results, before)
        return
    yield from matrix.speed(results)
    yield from matrix.scaling(results)
    yield from matrix.error(results)
    if before is not None:
        yield from matrix.gain(results, before)


def _parse(
    program: str,
    op: str | None,
    sets: Sequence[str],
    arguments: list[str],
    add_arguments: Callable[[argparse.ArgumentParser], None],
) -> argparse.Namespace:
    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            if text == "all":
                return list(known)
            chosen = [name.strip() for name in text.split(",")]
            for name in chosen:
                if name not in known:
                    valid = ", ".join(["all", *known])
                    raise argparse.ArgumentTypeError(f"there is no '{name}', only {valid}")
            return chosen

        return parse

    algorithms = dict.fromkeys(name for op in ON_CPU.values() for name in op)
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--threads", type=int, help="as torch.set_num_threads takes them")
    parser.add_argument("--seconds", type=float, help="for each side of each case")
    parser.add_argument(
        "--algorithms", type=names([*algorithms]), metavar="A,B", help="only these; or all"
    )
    if sets:
        parser.add_argument(
            "--set",
            type=names(sets),
            default=[],
            metavar="A,B",
            help=f"sets of convolutions, a line for each: all, {', '.join(sets)}",
        )
    parser.add_argument("--scaling", action="store_true", help="one thread against --threads")
    parser.add_argument("--error", action="store_true", help="against double precision")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a chart")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="show gains over these")
    add_arguments(parser)
    parser.set_defaults(set=[])
    options = parser.parse_args(arguments)
    if options.seconds is None:
        options.seconds = 0.05 if options.set else 1.0
    if options.set and not options.algorithms:
        # The tiles of Winograd are seen where they are asked for, plain 'winograd' takes the best.
        known = ON_CPU[op or "conv2d"]
        options.algorithms = [name for name in known if not name.startswith("winograd ")]
    if op not in (None, "conv2d"):
        options.set = [f"{op}, {group}" for group in options.set]
    return options


def _measure(
    case: Case, options: argparse.Namespace, machine: Machine, watch: machines.Watch
) -> list[Result]:
    first = {name: case.sides[name] for name in case.baseline}
    sides = {**first, **case.sides}
    timings = measure.compare(
        sides, seconds=options.seconds, epsilons=case.epsilons, pause=case.pause, watch=watch
    )
    alone = {}
    if options.scaling and machine.threads > 1:
        torch.set_num_threads(1)
        alone = measure.compare(sides, seconds=options.seconds, epsilons=case.epsilons)
        torch.set_num_threads(machine.threads)
    exact = case.exact() if options.error and case.exact else None
    best = max(timings[name].ratio for name in case.baseline)
    results = []
    for side, timing in timings.items():
        ratio = timing.ratio / best
        result = Result(
            *(case.group, case.name, side, timing.seconds, ratio),
            times=case.times,
            idle=timing.idle,
            first=case.first.get(side, timing.first) if case.pause else None,
            state=timing.state if torch.get_num_threads() > 1 else "",
            dropped=timing.dropped,
        )
        if case.flops:
            gflops = case.flops / timing.seconds / 1e9
            result = replace(result, gflops=gflops, peak=gflops / machine.fma_peak)
        elif case.bytes:
            result = replace(result, gbytes=case.bytes / timing.seconds / 1e9)
        if alone:
            result = replace(result, scaling=alone[side].seconds / timing.seconds)
        if exact is not None:
            result = replace(result, error=measure.relative_error(sides[side](), exact))
        results.append(result)
    return results


def _load(path: Path) -> dict[tuple[str, str, str], Result]:
    results = [Result(**row) for row in json.loads(path.read_text())["results"]]
    return {result.key: result for result in results}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    print(f"wrote {path}")
