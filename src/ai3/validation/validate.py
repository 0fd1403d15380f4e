"""An algorithm tried with all that it claims to do."""

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

from ai3 import algorithms
from ai3.errors import SelectionError, WrongResultError, unknown_name
from ai3.ops import LAYOUTS, ON_CPU
from ai3.platforms import supported, why_not_on_cpu
from ai3.validation.case import Case, Randomly
from ai3.validation.cases import SUITES
from ai3.validation.shrink import shrunk
from ai3.validation.speed import Speed, chart, groups_of, measured
from ai3.validation.trial import STRIDES, VALUES, Outcome, Trial, attempt
from ai3.validation.worker import DOES_NOT_END, Worker

DTYPES = ("float32", "float64")
THREADS = (1, 2, (os.cpu_count() or 1) + 1)
TRIAL_SECONDS = 30.0
MOST_DEATHS = 10
MOST_WRONG = 100
SHRINK_SECONDS = 10.0


@dataclass(frozen=True)
class Fault:
    """A kind of what is wrong: how many trials showed it, the smallest, and the line that does that
    one again."""

    kind: str
    count: int
    why: str
    trial: Trial
    line: str


@dataclass(frozen=True)
class Errors:
    """Of results of a dtype: the median and the largest of the cases' largest errors, of this
    algorithm and of "direct" in the same cases, over epsilon times the root of how many terms are
    added up times the largest value."""

    cases: int
    median: float
    largest: float
    direct_median: float
    direct_largest: float


@dataclass(frozen=True)
class Validation:
    """What came of an algorithm's trials.

    Attributes:
        right, refused, wrong: how many trials.
        refusals: of dense arrays, how many trials by reason, in which numbers are "#".
        faults: what was wrong, by kind.
        errors: by dtype.
        layouts: how many trials were right, by the layouts of inputs and output.
        threads: by how many threads were asked for, how many there were.
        spread: trials in which NaN or infinity came to more elements than they should.
        unfinished: why not all trials ran, or an empty text.
        speeds: of the cases of the sets that were asked for, nothing where results are wrong.
    """

    op: str
    algorithm: str
    right: int
    refused: int
    wrong: int
    refusals: dict[str, int]
    faults: tuple[Fault, ...]
    errors: dict[str, Errors]
    layouts: dict[str, int]
    threads: dict[int, int]
    spread: int
    seconds: float
    seed: int
    unfinished: str = ""
    speeds: tuple[Speed, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong and something was right."""
        return not self.wrong and self.right > 0

    def json(self) -> str:
        """All that is known, and "ok"."""
        from ai3.validation.report import to_json

        return to_json(self)

    def chart(self, path: "str | PathLike[str]") -> None:
        """Write a chart of the speeds: PNG, SVG or PDF, by the path's ending. Needs matplotlib.

        Raises ValueError where none were measured."""
        if not self.speeds:
            raise ValueError("no speeds were measured: name sets with bench, of right results")
        chart(self.speeds, f"{self.algorithm!r} of {self.op}", path)

    def __str__(self) -> str:
        """A report of 80 columns, in which lines to paste are whole."""
        from ai3.validation.report import to_text

        return to_text(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from ai3.validation.report import lines

        yield from lines(self)


def check(
    op: str,
    algorithm: str,
    inputs: Sequence[Sequence[int]],
    weights: Sequence[Sequence[int] | None] = (),
    *,
    file: "str | PathLike[str] | None" = None,
    dtype: str = "float32",
    threads: int = 1,
    input_layout: str = "dense",
    output_layout: str | None = None,
    values: str = "random",
    strides: str | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    isolated: bool = True,
    **attributes: Any,
) -> Outcome:
    """See `ai3.check`."""
    file = _loaded(op, algorithm, file)
    for what, value, valid in (
        ("dtype", dtype, DTYPES),
        ("input_layout", input_layout, LAYOUTS),
        ("output_layout", output_layout or "dense", LAYOUTS),
        ("values", values, VALUES),
        ("strides", strides or STRIDES[0], STRIDES),
    ):
        if value not in valid:
            raise unknown_name(what, value, valid)
    held = tuple(None if shape is None else tuple(shape) for shape in weights)
    case = Case(op, tuple(map(tuple, inputs)), held, attributes)
    trial = Trial(case, dtype, threads, input_layout, output_layout, values, strides, seed)
    if isolated:
        with Worker(algorithm, tolerance, TRIAL_SECONDS) as worker:
            outcome = worker.attempt(trial)
    else:
        outcome = attempt(trial, algorithm, tolerance)
    if outcome.status == "invalid":
        raise ValueError(outcome.why)
    if outcome.status == "wrong":
        raise WrongResultError(op, algorithm, outcome.kind, outcome.why)
    return outcome


def validate(
    op: str,
    algorithm: str,
    *,
    file: "str | PathLike[str] | None" = None,
    seconds: float = 90.0,
    examples: int = 500,
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
    threads: Sequence[int] = THREADS,
    tolerance: float | None = None,
    bench: Sequence[str] = (),
    most: int | None = None,
    progress: Callable[[str], object] | None = None,
) -> Validation:
    """See `ai3.validate`; at most so many trials."""
    file = _loaded(op, algorithm, file)
    for group in bench:
        if group not in groups_of(op):
            raise unknown_name(f"set of {op}", group, groups_of(op))
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise unknown_name("dtype", dtype, DTYPES)
    trials = _in_turns(
        _named(op, dtypes, threads),
        _random(op, dtypes, threads, seed, examples),
        _named_otherwise(op, dtypes, threads),
    )[:most]
    found = _Found()
    started = time.monotonic()
    with Worker(algorithm, tolerance, TRIAL_SECONDS) as worker:
        shared = {count: worker.threads_of(count) for count in threads}
        unfinished = ""
        for done, trial in enumerate(trials):
            if progress and done % 10 == 0:
                progress(f"{op} {algorithm!r}: {done} of {len(trials)} trials, {found.wrong} wrong")
            if reason := _enough(time.monotonic() - started, seconds, worker.deaths, found.wrong):
                unfinished = f"{len(trials) - done} of {len(trials)} trials were not run, {reason}"
                break
            if trial.case in found.deadly:
                continue
            deaths = worker.deaths
            found.add(trial, worker.attempt(trial))
            if worker.deaths > deaths:
                found.deadly.append(trial.case)
    faults = []
    for kind, trial in found.smallest.items():
        if progress:
            progress(f"{op} {algorithm!r}: looking for a smaller case that {kind} ...")
        trial, outcome = _smaller(trial, found.outcomes[kind], algorithm, tolerance)
        line = trial.line(algorithm, file, tolerance)
        faults.append(Fault(kind, found.faults[kind], outcome.why, trial, line))
    ended = time.monotonic()
    # What is wrong is not fast, and may end this process.
    speeds = () if found.wrong else tuple(measured(op, algorithm, bench, progress=progress))
    return Validation(
        op=op,
        algorithm=algorithm,
        right=found.count["right"],
        refused=found.count["refused"],
        wrong=found.wrong,
        refusals=dict(found.refusals.most_common()),
        faults=tuple(faults),
        errors={dtype: _errors(pairs) for dtype, pairs in found.errors.items()},
        layouts=dict(found.layouts),
        threads=shared,
        spread=found.spread,
        seconds=ended - started,
        seed=seed,
        unfinished=unfinished,
        speeds=speeds,
    )


class _Found:
    """What came of the trials so far."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.layouts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.smallest: dict[str, Trial] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.errors: dict[str, list[tuple[float, float]]] = {}
        self.spread = 0
        self.deadly: list[Case] = []
        """What crashed or did not end, which is not tried in other ways."""

    @property
    def wrong(self) -> int:
        return self.count["wrong"]

    def add(self, trial: Trial, outcome: Outcome) -> None:
        is_dense = trial.input_layout == "dense" and trial.output_layout in (None, "dense")
        if outcome.status == "refused" and not is_dense:
            # Which layouts it takes is what `layouts` says.
            return
        self.count[outcome.status] += 1
        if outcome.status == "refused":
            self.refusals[re.sub(r"\d+", "#", outcome.why)] += 1
        elif outcome.status == "right":
            after = trial.output_layout or trial.input_layout
            self.layouts[
                trial.input_layout
                if after == trial.input_layout
                else f"{trial.input_layout} to {after}"
            ] += 1
            self.spread += outcome.spread > 0
            if outcome.error is not None and outcome.direct is not None:
                pairs = self.errors.setdefault(trial.dtype, [])
                pairs.append((outcome.error, outcome.direct))
        elif outcome.status == "wrong":
            kind = outcome.kind
            self.faults[kind] += 1
            known = self.smallest.get(kind)
            if known is None or trial.case.elements < known.case.elements:
                self.smallest[kind], self.outcomes[kind] = trial, outcome


def _enough(seconds: float, most: float, deaths: int, wrong: int) -> str:
    """Why no more trials are run, if so."""
    if seconds > most:
        return f"as {most:g} s were over"
    if deaths >= MOST_DEATHS:
        return f"after {deaths} crashes"
    return f"after {wrong} wrong ones" if wrong >= MOST_WRONG else ""


def _errors(pairs: Sequence[tuple[float, float]]) -> Errors:
    own, direct = zip(*pairs, strict=True)
    median = statistics.median
    return Errors(len(pairs), median(own), max(own), median(direct), max(direct))


def _smaller(
    trial: Trial, outcome: Outcome, algorithm: str, tolerance: float | None
) -> tuple[Trial, Outcome]:
    """The smallest that is wrong in the same way, of those that are found in some seconds."""
    if outcome.kind == DOES_NOT_END:
        return trial, outcome
    until = time.monotonic() + SHRINK_SECONDS
    found = outcome

    def is_wrong(simpler: Trial) -> bool:
        nonlocal found
        if time.monotonic() > until:
            return False
        outcome = worker.attempt(simpler)
        if same := outcome.kind == found.kind:
            found = outcome
        return same

    with Worker(algorithm, tolerance, min(TRIAL_SECONDS, SHRINK_SECONDS)) as worker:
        return shrunk(trial, is_wrong), found


def _in_turns(*groups: Iterable[Trial]) -> list[Trial]:
    """Of each group what costs little first, so that whatever time there is tells of all."""

    def cost(trial: Trial) -> int:
        return prod(trial.case.inputs[0]) * SUITES[trial.case.op].reduction(trial.case)

    places = [
        (i / len(ordered), trial)
        for ordered in (sorted(group, key=cost) for group in groups)
        for i, trial in enumerate(ordered)
    ]
    return [trial for _, trial in sorted(places, key=lambda pair: pair[0])]


def _named(op: str, dtypes: Sequence[str], threads: Sequence[int]) -> Iterator[Trial]:
    """Each named case in each dtype, the numbers of threads in turns."""
    for i, case in enumerate(SUITES[op].named.values()):
        for dtype in dtypes:
            yield Trial(case, dtype, threads[i % len(threads)], seed=i)


def _named_otherwise(op: str, dtypes: Sequence[str], threads: Sequence[int]) -> Iterator[Trial]:
    """The other numbers of threads, memory that is not dense, NaN and infinity, other layouts."""
    for i, case in enumerate(SUITES[op].named.values()):
        for dtype in dtypes:
            plain = Trial(case, dtype, threads[i % len(threads)], seed=i)
            for count in threads:
                if count != plain.threads:
                    yield replace(plain, threads=count)
            yield replace(plain, strides=STRIDES[i % len(STRIDES)])
            yield replace(plain, values="special")
            for before, after in _layouts(op):
                yield replace(plain, input_layout=before, output_layout=after)


def _layouts(op: str) -> list[tuple[str, str | None]]:
    """Of inputs and output, beside dense ones; None where the operation says the output's."""
    if op in ("conv2d", "permute"):
        pairs = [(before, after) for before in LAYOUTS for after in LAYOUTS]
        return [(before, after) for before, after in pairs if (before, after) != ("dense",) * 2]
    return [(layout, None) for layout in LAYOUTS if layout != "dense"]


def _random(
    op: str, dtypes: Sequence[str], threads: Sequence[int], seed: int, examples: int
) -> Iterator[Trial]:
    for i in range(examples):
        draw = Randomly((seed, i))
        case = SUITES[op].draw(draw, op)
        trial = Trial(case, draw.choice(dtypes), draw.choice(threads), seed=draw.integer(0, 999))
        way = draw.choice(["plain", "plain", "strided", "special", "layout"])
        if way == "strided":
            trial = replace(trial, strides=draw.choice(STRIDES))
        elif way == "special":
            trial = replace(trial, values="special")
        elif way == "layout":
            before, after = draw.choice(_layouts(op))
            trial = replace(trial, input_layout=before, output_layout=after)
        yield trial


def _loaded(op: str, algorithm: str, file: "str | PathLike[str] | None") -> str | None:
    """Adds the file's algorithm, and says which file to name in a line that is pasted."""
    if op not in ON_CPU:
        raise unknown_name("operation", op, ON_CPU)
    if file is not None:
        path = Path(file)
        if path.suffix == ".py":
            algorithms.load_file(path)
        else:
            algorithms.load_algorithm(path, op, algorithm)
    if algorithm in supported()[op] and (reason := why_not_on_cpu(op, algorithm)):
        raise SelectionError(f"algorithm of {op}: {algorithm!r} is not validated: {reason}")
    if algorithm not in ON_CPU[op]:
        raise unknown_name(f"algorithm of {op}", algorithm, supported()[op])
    maker = algorithms.REGISTERED.get((op, algorithm))
    if file is None and maker is not None and isinstance(maker.maker, Path):
        return str(maker.maker)
    return None if file is None else str(file)
