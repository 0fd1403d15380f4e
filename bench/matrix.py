"""Results of many cases as tables with a line for each case and a column for each algorithm, and as
a chart of dots."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import geometric_mean

from rich import box
from rich.console import Group
from rich.table import Table

from ai3.ops import ON_CPU
from bench.case import Result

# What fits beside a case's name, its count and torch's time in 80 columns.
COLUMNS = 8

Cell = Callable[[Result], float | None]


def speed(results: Sequence[Result]) -> Iterator[Group]:
    """How many times as fast as torch's best layout, whose time stands in the first column."""
    yield from _tables(results, f"{results[0].group}: speed, torch's best is 1", _ratio)


def scaling(results: Sequence[Result]) -> Iterator[Group]:
    if any(result.scaling for result in results):
        title = f"{results[0].group}: speed, one thread is 1"
        yield from _tables(results, title, lambda result: result.scaling)


def error(results: Sequence[Result]) -> Iterator[Group]:
    if any(result.error is not None for result in results):
        title = f"{results[0].group}: relative L2 error / 1e-7"
        yield from _tables(results, title, lambda r: r.error and r.error * 1e7, worst=max)


def gain(
    results: Sequence[Result], before: Mapping[tuple[str, str, str], Result]
) -> Iterator[Group]:
    def cell(result: Result) -> float | None:
        old = before.get(result.key)
        return old and old.seconds / result.seconds

    title = f"{results[0].group}: speed, that of the older figures is 1"
    yield from _tables(results, title, cell)


def summary(groups: Mapping[str, Sequence[Result]]) -> Iterator[Group]:
    """The geometric mean of each group, and of all, with the worst of all."""
    everything = [result for results in groups.values() for result in results]
    for algorithms in _columns(everything):
        table = _table(["", *algorithms])
        for name, results in [*groups.items(), ("all", everything)]:
            found = _by_algorithm(results, algorithms, _ratio)
            table.add_row(name, *(_text(v and geometric_mean(v)) for v in found))
        worst = _by_algorithm(everything, algorithms, _ratio)
        table.add_row("worst", *(_text(v and min(v)) for v in worst))
        yield Group("geometric means, torch's best is 1", table, "")
    yield from _choices(groups)


CHOICES = ("default", "guess")
"""The names that stand for another algorithm."""


def _choices(groups: Mapping[str, Sequence[Result]]) -> Iterator[Group]:
    """What the choices among the algorithms cost against the fastest that was measured."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column()
    for heading in (f"{name}\n{what}" for name in CHOICES for what in ("mean", "worst")):
        table.add_column(heading, justify="right")
    everything = [result for results in groups.values() for result in results]
    seen = False
    for name, results in [*groups.items(), ("all", everything)]:
        lost: dict[str, list[float]] = {choice: [] for choice in CHOICES}
        for _, rows in groupby(results, key=lambda result: (result.group, result.case)):
            seconds = {row.side: row.seconds for row in rows if "torch" not in row.side}
            chosen = {choice: seconds.pop(choice) for choice in CHOICES if choice in seconds}
            for choice, time in chosen.items() if seconds else ():
                lost[choice].append(time / min(seconds.values()))
        seen = seen or any(lost.values())
        cells = ((_text(v and geometric_mean(v)), _text(v and max(v))) for v in lost.values())
        table.add_row(name, *(cell for pair in cells for cell in pair))
    if seen:
        yield Group("time, that of the fastest algorithm is 1", table, "")


def chart(results: Sequence[Result], title: str, path: Path) -> None:
    """A line for each case, on it a dot for each algorithm at its speed against torch's best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cases = list(dict.fromkeys(result.case for result in results))
    sides = [name for part in _columns(results) for name in part]
    figure, panel = plt.subplots(figsize=(9, 1.6 + 0.2 * len(cases)), layout="constrained")
    for i, side in enumerate(sides):
        rows = [result for result in results if result.side == side]
        panel.plot(
            [row.ratio for row in rows],
            [cases.index(row.case) for row in rows],
            "o^sDvP*Xd<>"[i % 11],
            color=f"C{i % 10}",
            label=side,
            markersize=8 if side == "default" else 5,
            alpha=0.8,
        )
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    panel.set_yticks(range(len(cases)), cases, fontsize=7)
    panel.set_ylim(len(cases) - 0.4, -0.6)
    panel.grid(axis="y", color="0.9", linewidth=0.6)
    panel.axvline(1, color="0.5", linewidth=0.8, zorder=0)
    panel.set_xlabel("speed, against the fastest way of torch")
    panel.set_title(title, loc="left", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=7, ncols=5, loc="outside lower center")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _ratio(result: Result) -> float:
    return result.ratio


def _columns(results: Sequence[Result]) -> Iterator[list[str]]:
    """The algorithms, as many as go into one table; tables of about one size."""
    sides = {result.side for result in results}
    names = [name for name in ON_CPU["conv2d"] if name in sides]
    tables = -(-len(names) // COLUMNS)
    for i in range(tables):
        yield names[len(names) * i // tables : len(names) * (i + 1) // tables]


def _tables(
    results: Sequence[Result],
    title: str,
    cell: Cell,
    worst: Callable[[list[float]], float] = min,
) -> Iterator[Group]:
    for algorithms in _columns(results):
        table = _table(["", "x", "torch ms", *algorithms])
        for case, rows in groupby(results, key=lambda result: result.case):
            sides = {row.side: row for row in rows}
            torch_ms = 1e3 * min(row.seconds for row in sides.values() if "torch" in row.side)
            cells = (cell(sides[name]) if name in sides else None for name in algorithms)
            times = next(iter(sides.values())).times
            table.add_row(case, f"{times}", _text(torch_ms), *map(_text, cells))
        found = _by_algorithm(results, algorithms, cell)
        table.add_section()
        table.add_row("geometric mean", "", "", *(_text(v and geometric_mean(v)) for v in found))
        table.add_row("worst", "", "", *(_text(v and worst(v)) for v in found))
        yield Group(title, table, "")


def _table(columns: Sequence[str]) -> Table:
    view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    for i, name in enumerate(columns):
        width = 5 if "torch" in name else 4
        view.add_column(
            "\n".join(textwrap.wrap(name, width)),
            justify="right" if i else "left",
            no_wrap=True,
            vertical="bottom",
        )
    return view


def _by_algorithm(
    results: Sequence[Result], algorithms: Sequence[str], cell: Cell
) -> list[list[float]]:
    values = {name: [cell(row) for row in results if row.side == name] for name in algorithms}
    return [[value for value in found if value] for found in values.values()]


def _text(value: float | list[float] | None) -> str:
    """Three digits, or '-' for what there is not."""
    if not value or isinstance(value, list):
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
