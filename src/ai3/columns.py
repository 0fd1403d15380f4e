"""Tables of text in which figures are never cut, whatever the width."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

GAPS = (2, 1)
"""Spaces between columns, the fewer where that makes room."""

INDENT = 2
CUT = "…"


@dataclass(frozen=True)
class Column:
    """`least` is the width to which its texts may be cut, in the middle; None where they may not.
    `right` aligns them there."""

    heading: str
    least: int | None = None
    right: bool = False


def cut(text: str, width: int) -> str:
    """The text, without its middle where it is longer than that."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + CUT + text[len(text) - tail :]


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Any:
    """A renderable of rich's: the rows, each in one line of at most `width` characters where that
    holds all but what may be cut and still tells the rows' first cells apart, in several where it
    does not: then what may be cut comes first and what follows is indented."""
    from rich.text import Text

    lines = _lines(columns, rows, width)
    view = Text(no_wrap=True, overflow="ignore")
    if title:
        view.append(f"{title}\n", "italic")
    headings = [column.heading for column in columns]
    for i, line in enumerate(lines):
        view.append(line.text(columns, headings) + "\n", "bold")
        if i == len(lines) - 1:
            view.append("─" * min(width, max(each.width for each in lines)) + "\n", "dim")
    for row in rows:
        for line in lines:
            view.append(f"{line.text(columns, row)}\n")
    view.rstrip()
    return view


def plain(view: Any) -> str:
    """What rich shows of it at 80 columns, without colours."""
    from rich.console import Console

    console = Console(width=80, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view, crop=False)
    return captured.get().rstrip("\n")


@dataclass(frozen=True)
class _Line:
    """Which columns stand in it, and how wide each is."""

    indent: int
    places: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int

    @property
    def width(self) -> int:
        return self.indent + sum(self.widths) + self.gap * (len(self.widths) - 1)

    def text(self, columns: Sequence[Column], cells: Sequence[str]) -> str:
        parts = []
        for place, width in zip(self.places, self.widths, strict=True):
            text = cut(cells[place], width)
            parts.append(text.rjust(width) if columns[place].right else text.ljust(width))
        return (" " * self.indent + (" " * self.gap).join(parts)).rstrip()


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[_Line]:
    widest = [
        max(len(text) for text in (column.heading, *(row[i] for row in rows)))
        for i, column in enumerate(columns)
    ]
    whole = range(len(columns))
    for gap in GAPS:
        fitted = _fitted(columns, whole, widest, width, gap)
        if fitted is not None and _are_told_apart([row[0] for row in rows], fitted[0]):
            return [_Line(0, tuple(whole), fitted, gap)]
    names = [i for i in whole if columns[i].least is not None]
    figures = [i for i in whole if columns[i].least is None]
    lines, gap = [], GAPS[0]
    for indent, places in ((0, names), (INDENT, figures)):
        for group in _packed(places, columns, widest, width - indent):
            fitted = _fitted(columns, group, widest, width - indent, gap)
            widths = fitted or tuple(widest[i] for i in group)
            lines.append(_Line(indent, tuple(group), widths, gap))
    return lines


def _are_told_apart(names: Sequence[str], width: int) -> bool:
    """Whether different names are still different when they are cut to that width."""
    different = set(names)
    return len({cut(name, width) for name in different}) == len(different)


def _packed(
    places: Iterable[int], columns: Sequence[Column], widest: Sequence[int], width: int
) -> list[list[int]]:
    """The columns in as few lines as hold them in their order."""
    groups: list[list[int]] = []
    for place in places:
        if groups and _fitted(columns, [*groups[-1], place], widest, width, GAPS[0]) is not None:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _fitted(
    columns: Sequence[Column],
    places: Sequence[int],
    widest: Sequence[int],
    width: int,
    gap: int,
) -> tuple[int, ...] | None:
    """The widths of columns in one line, the largest of those that may be cut made smaller until
    the line holds all; None where it does not."""
    widths = [widest[i] for i in places]
    least = [widest[i] if columns[i].least is None else columns[i].least for i in places]
    over = sum(widths) + gap * (len(widths) - 1) - width
    while over > 0:
        room = [w if w > (few or 0) else 0 for w, few in zip(widths, least, strict=True)]
        if not any(room):
            return None
        widths[room.index(max(room))] -= 1
        over -= 1
    return tuple(widths)
