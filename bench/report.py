"""Results as a table that fits 80 columns, and as a chart."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rich import box
from rich.table import Table

from bench.case import Result


def table(
    results: Sequence[Result], before: Mapping[tuple[str, str, str], Result] | None = None
) -> Table:
    """A block of lines for each case; `before` adds how many times as fast each side has become,
    where the machine was in the same state."""
    has_rate = any(result.gflops or result.gbytes for result in results)
    has_peak = any(result.peak for result in results)
    has_idle = any(result.idle for result in results)
    view = Table(box=box.SIMPLE_HEAD, show_edge=False, title_justify="left")
    view.title = results[0].group if results else None
    view.add_column("", no_wrap=True, min_width=24)
    view.add_column("time", justify="right")
    view.add_column("speed", justify="right")
    if has_idle:
        view.add_column("after idle", justify="right")
        view.add_column("first call", justify="right")
    if has_rate:
        view.add_column("rate", justify="right")
    if has_peak:
        view.add_column("of peak", justify="right")
    if before is not None:
        view.add_column("gain", justify="right")

    for case, rows in groupby(results, key=lambda result: result.case):
        view.add_row(f"[bold]{case}[/]")
        for result in rows:
            cells = [f"  {result.side}", duration(result.seconds), f"{result.ratio:.2f}x"]
            if has_idle:
                cells += [duration(s) if s else "" for s in (result.idle, result.first)]
            if has_rate:
                cells.append(_rate(result))
            if has_peak:
                cells.append(f"{result.peak:.0%}" if result.peak else "")
            if before is not None:
                old = before.get(result.key)
                cells.append(_gain(result, old) if old else "new")
            view.add_row(*cells)
        view.add_section()
    return view


def states(results: Sequence[Result]) -> str:
    """In how many cases the machine was in which state, where several threads ran, and the share of
    turns that were dropped as they were in another."""
    by_case = {result.key[:2]: result for result in results if result.state}
    if not by_case:
        return ""
    found = Counter(result.state for result in by_case.values())
    told = ", ".join(f"{_STATES.get(state, state)} in {n}" for state, n in found.most_common())
    dropped = sum(result.dropped for result in by_case.values()) / len(by_case)
    return f"processors: {told} of {len(by_case)} cases; {dropped:.0%} of turns dropped"


def _gain(result: Result, old: Result) -> str:
    if result.state and old.state and result.state != old.state:
        return f"was {old.state}"
    return f"{old.seconds / result.seconds:.2f}x"


_STATES = {"apart": "a core for each thread", "shared": "threads share a core"}
"""What the states of `ai3.machine` mean."""


def duration(seconds: float) -> str:
    """Three digits and the unit that suits them."""
    unit, value = "s", seconds
    for smaller in ("ms", "us"):
        if value < 1:
            unit, value = smaller, value * 1000
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def _rate(result: Result) -> str:
    if result.gflops:
        return f"{result.gflops:.1f} GFLOP/s"
    return f"{result.gbytes:.1f} GB/s" if result.gbytes else ""


def chart(results: Sequence[Result], title: str, path: Path) -> None:
    """Bars of speed against the best of the baseline: a panel for each group, in it a block of
    bars for each case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = [(group, list(rows)) for group, rows in groupby(results, key=lambda r: r.group)]
    colours = {side: f"C{i}" for i, side in enumerate(dict.fromkeys(r.side for r in results))}
    heights = [len(rows) + len({row.case for row in rows}) + 1 for _, rows in groups]
    figure, panels = plt.subplots(
        len(groups),
        figsize=(8, 1 + 0.25 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, (group, rows) in zip(panels[:, 0], groups, strict=True):
        places, position = [], 0
        for case, block in groupby(rows, key=lambda row: row.case):
            panel.text(0, position, f" {case}", va="center", fontsize=8, fontweight="bold")
            for _ in block:
                position += 1
                places.append(position)
            position += 1
        bars = panel.barh(
            places, [row.ratio for row in rows], color=[colours[row.side] for row in rows]
        )
        texts = [f"{row.ratio:.2f}x  {duration(row.seconds)}" for row in rows]
        panel.bar_label(bars, texts, padding=3, fontsize=8)
        panel.set_yticks(places, [row.side for row in rows], fontsize=8)
        panel.set_ylim(position - 0.4, -0.6)
        panel.set_xlim(0, 1.25 * max(row.ratio for row in rows))
        panel.axvline(1, color="0.7", linewidth=0.8, zorder=0)
        panel.set_title(group, loc="left", fontweight="bold")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("speed, against the fastest way of torch")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
