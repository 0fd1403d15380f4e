"""The command line that all benchmarks share."""

import argparse
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

import ai3._core
from bench import measure, report
from bench.case import Case, Result
from bench.progress import progress


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
            cpu=_cpu_name(),
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


def main(
    program: str,
    names: Sequence[str],
    cases: Callable[[str], Iterable[Case]],
    arguments: list[str],
) -> int:
    """Measure `cases(name)` of each name and print a table for each."""
    options = _parse(program, arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    measure.keep_freed_memory()
    machine = Machine.here()
    before = _load(options.compare) if options.compare else None

    console = Console()
    results: list[Result] = []
    console.print(str(machine), highlight=False)
    for name in names:
        group: list[Result] = []
        with progress(f"{name} ...") as show:
            for case in cases(name):
                show(f"{name}: {case.name} ...")
                group += _measure(case, options.seconds, machine.fma_peak)
        console.print(report.table(group, before), highlight=False)
        results += group

    if options.json:
        document = {"machine": asdict(machine), "results": [asdict(result) for result in results]}
        _write(options.json, lambda path: path.write_text(json.dumps(document, indent=1) + "\n"))
    if options.png:
        _write(options.png, lambda path: report.chart(results, str(machine), path))
    return 0


def _parse(program: str, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--threads", type=int, help="as torch.set_num_threads takes them")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each side of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a chart")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="show gains over these")
    return parser.parse_args(arguments)


def _measure(case: Case, seconds: float, fma_peak: float) -> list[Result]:
    first = {name: case.sides[name] for name in case.baseline}
    timings = measure.compare({**first, **case.sides}, seconds=seconds)
    best = max(timings[name].ratio for name in case.baseline)
    results = []
    for side, timing in timings.items():
        result = Result(case.group, case.name, side, timing.seconds, timing.ratio / best)
        if case.flops:
            gflops = case.flops / timing.seconds / 1e9
            result = replace(result, gflops=gflops, peak=gflops / fma_peak)
        elif case.bytes:
            result = replace(result, gbytes=case.bytes / timing.seconds / 1e9)
        results.append(result)
    return results


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _load(path: Path) -> dict[tuple[str, str, str], Result]:
    results = [Result(**row) for row in json.loads(path.read_text())["results"]]
    return {result.key: result for result in results}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    print(f"wrote {path}")
