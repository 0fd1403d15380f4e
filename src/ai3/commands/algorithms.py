"""`ai3 algorithms`."""

from typing import Annotated, Any

import typer

import ai3
from ai3.algorithms import REGISTERED
from ai3.commands.output import Json, show, show_json
from ai3.errors import near
from ai3.platforms import places_of


def add_to(app: typer.Typer) -> None:
    app.command("algorithms", short_help="List what can be chosen by name.")(algorithms)


def algorithms(
    op: Annotated[
        str | None, typer.Argument(metavar="[OPERATION]", help="Of this one alone: conv2d, ...")
    ] = None,
    json: Json = False,
) -> None:
    """List the operations, the algorithms of each, the platforms that have them, and where those
    that were added come from.

    An algorithm is chosen by its name, as in ai3.swap_conv2d(network, "winograd").
    """
    if op is not None and op not in ai3.SUPPORTED_ALGORITHMS:
        hint = near(op, ai3.SUPPORTED_ALGORITHMS)
        raise ValueError(f"there is no operation {op!r}{hint}: `ai3 algorithms` lists them")
    chosen = [op] if op else list(ai3.SUPPORTED_ALGORITHMS)
    rows: list[dict[str, Any]] = [
        {
            "operation": op,
            "algorithm": name,
            "on": places_of(op, name),
            "from": REGISTERED[op, name].origin if (op, name) in REGISTERED else "ai3",
        }
        for op in chosen
        for name in ai3.SUPPORTED_ALGORITHMS[op]
    ]
    if json:
        show_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("operation", no_wrap=True)
    for heading in ("algorithm", "on", "from"):
        table.add_column(heading, overflow="fold")
    for op in chosen:
        together: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            if row["operation"] == op:
                together.setdefault((", ".join(row["on"]), row["from"]), []).append(
                    row["algorithm"]
                )
        first = op
        for (places, origin), names in together.items():
            table.add_row(first, ", ".join(names), places, origin)
            first = ""
    show(table)
