"""What came of a validation, for people and for programs."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ai3.columns import plain
from ai3.validation.speed import mean_ratio

if TYPE_CHECKING:
    from ai3.validation.validate import Validation

MOST_REASONS = 8


def to_json(of: "Validation") -> str:
    faults = [
        {"kind": fault.kind, "count": fault.count, "why": fault.why, "line": fault.line}
        for fault in of.faults
    ]
    return json.dumps({"ok": of.ok, **asdict(of), "faults": faults}, indent=1)


def to_text(of: "Validation") -> str:
    return plain(of)


def lines(of: "Validation") -> Iterator[Any]:
    """Tables and texts for a rich console."""
    from rich.text import Text

    verdict = "right" if of.ok else "wrong" if of.wrong else "nothing of it was tried"
    colour = "green" if of.ok else "red"
    yield Text.assemble((f"{of.op} {of.algorithm!r}: "), (verdict, f"bold {colour}"))
    yield Text(
        f"{of.right} trials right, {of.refused} refused, {of.wrong} wrong in {of.seconds:.0f} s, "
        f"seed {of.seed}"
    )
    if of.unfinished:
        yield Text(of.unfinished, "yellow")
    yield from _faults(of)
    yield from _refusals(of)
    yield from _errors(of)
    yield from _coverage(of)
    yield from _speeds(of)


def _faults(of: "Validation") -> Iterator[Any]:
    from rich.text import Text

    for fault in of.faults:
        yield Text(f"\nit {fault.kind} ({fault.count} trials)", "bold red")
        yield Text(f"  {fault.why}")
        yield Text(_in_lines(fault.line, 80), no_wrap=True, overflow="ignore")


def _in_lines(call: str, width: int) -> str:
    """A call cut between its arguments, which is the same call."""
    first, *arguments = re.split(r", (?=\w+=)", call)
    lines = [first]
    for argument in arguments:
        if len(lines[-1]) + len(argument) + 3 <= width:
            lines[-1] += f", {argument}"
        else:
            lines[-1] += ","
            lines.append(f"    {argument}")
    return "\n".join(lines)


def _refusals(of: "Validation") -> Iterator[Any]:
    if not of.refusals:
        return
    view = _table("\nrefused", "trials", "because")
    reasons = list(of.refusals.items())
    for reason, count in reasons[:MOST_REASONS]:
        view.add_row(str(count), reason)
    if left := sum(count for _, count in reasons[MOST_REASONS:]):
        view.add_row(str(left), f"{len(reasons) - MOST_REASONS} other reasons")
    yield view


def _errors(of: "Validation") -> Iterator[Any]:
    from rich.text import Text

    if not of.errors:
        return
    view = _table(
        "\nerrors of right results, in roundings",
        *("dtype", "cases", "median", "direct's", "largest", "direct's"),
    )
    for dtype, found in of.errors.items():
        figures = (found.median, found.direct_median, found.largest, found.direct_largest)
        view.add_row(dtype, str(found.cases), *(f"{figure:.3g}" for figure in figures))
    yield view
    yield Text("a rounding is epsilon * sqrt(terms of a sum) * the largest value", "dim")


def _coverage(of: "Validation") -> Iterator[Any]:
    from rich.text import Text

    layouts = ", ".join(f"{name} {count}" for name, count in of.layouts.items())
    threads = ", ".join(map(str, of.threads))
    yield Text(f"\nright in layouts: {layouts or 'none'}\nthreads: {threads}")
    for asked, had in of.threads.items():
        if had != asked:
            yield Text(f"  there were only {had} where {asked} were asked for", "yellow")
    if of.spread:
        yield Text(
            f"NaN and infinity came to more elements than they should in {of.spread} trials, as "
            "they do by transforms"
        )


def _speeds(of: "Validation") -> Iterator[Any]:
    for group in dict.fromkeys(speed.group for speed in of.speeds):
        speeds = [speed for speed in of.speeds if speed.group == group]
        view = _table(
            f"\n{group}: {mean_ratio(speeds):.2f} times as fast as the best other, in the mean",
            *("case", "ms", "GFLOP/s", "best other", "ms", "speed"),
        )
        for speed in speeds:
            own = speed.seconds[speed.algorithm]
            view.add_row(
                speed.case,
                f"{own * 1e3:.3g}",
                f"{speed.flops / own / 1e9:.3g}" if speed.flops else "",
                speed.best,
                f"{speed.seconds[speed.best] * 1e3:.3g}",
                f"{speed.ratio:.2f}x",
            )
        yield view


def _table(title: str, *headings: str) -> Any:
    from rich import box
    from rich.table import Table

    view = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1)
    )
    for heading in headings:
        left = heading in ("dtype", "because", "case", "best other")
        view.add_column(heading, justify="left" if left else "right", overflow="fold")
    return view
