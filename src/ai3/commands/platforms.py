"""`ai3 platforms`."""

import typer

import ai3
from ai3.commands.output import Json, show, show_json


def add_to(app: typer.Typer) -> None:
    app.command("platforms", short_help="List what networks can run on here.")(platforms)


def platforms(json: Json = False) -> None:
    """List what networks can run on here, and why not on the rest.

    "cpu" is this processor; under the others stand the libraries that they compute with.
    """
    rows = ai3.platforms()
    if json:
        show_json([row._asdict() for row in rows])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("platform", "available", "why not"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.name, "yes" if row.available else "no", row.reason)
    show(table)
