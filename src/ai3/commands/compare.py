"""`ai3 compare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import ai3
from ai3.columns import Column, table
from ai3.commands.output import WRONG, Json, show, show_json

Plan = Annotated[
    Path, typer.Argument(metavar="PLAN", show_default=False, help="A file that Plan.save wrote.")
]


def add_to(app: typer.Typer) -> None:
    app.command("compare", short_help="Tell in what two plans differ.")(compare)


def compare(before: Plan, after: Plan, json: Json = False) -> None:
    """Tell in what two plans differ: the algorithms, layouts and types of each node, and the time.

    Exits with 0 where the choices are the same, with 1 where they are not, and with 2 where a file
    is no plan.
    """
    plans = [ai3.load_plan(path) for path in (before, after)]
    found = plans[0].compare(plans[1])
    machines = [dict(plan.machine) for plan in plans]
    if json:
        ms = {"before": plans[0].ms, "after": plans[1].ms}
        differences = [asdict(difference) for difference in found]
        show_json({"ms": ms, "machines": machines, "differences": differences})
    else:
        if machines[0] != machines[1]:
            show(f"They are of different machines:\n  {_machine(plans[0])}\n  {_machine(plans[1])}")
        names = {node.name for plan in plans for node in plan.nodes}
        differing = len({difference.node for difference in found})
        times = f"{plans[0].ms:.2f} ms, {plans[1].ms:.2f} ms"
        show(f"{differing} of {len(names)} nodes differ; by what is known of each: {times}")
        if found:
            columns = [Column("node", least=14), Column("what"), Column("before"), Column("after")]
            rows = [[d.node, d.what, _text(d.before), _text(d.after)] for d in found]
            show(table("", columns, rows, 80))
    raise typer.Exit(WRONG if found else 0)


def _machine(plan: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in plan.machine.items())


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, tuple):
        flat = [_text(each) for each in value]
        return " ".join(flat) if all(isinstance(each, str) for each in value) else ", ".join(flat)
    return str(value)
