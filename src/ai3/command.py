"""The command `ai3`."""

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("ai3", description="What runs the layers of your networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "algorithms", help="list the algorithms, and where those that were added come from"
    )
    listing.add_argument("op", nargs="?", help="of this operation alone")
    listing.set_defaults(run=_algorithms)
    given = parser.parse_args(arguments)
    return int(given.run(given) or 0)


def _algorithms(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    import ai3
    from ai3.algorithms import REGISTERED

    if given.op is not None and given.op not in ai3.SUPPORTED_ALGORITHMS:
        print(f"ai3: there is no operation {given.op!r}: see `ai3 algorithms`")
        return 2
    table = Table(box=None, pad_edge=False)
    for heading in ("operation", "algorithm", "from"):
        table.add_column(heading, overflow="fold")
    for op, names in ai3.SUPPORTED_ALGORITHMS.items():
        if given.op not in (None, op):
            continue
        own = [name for name in names if (op, name) not in REGISTERED]
        table.add_row(op, ", ".join(own), "ai3")
        for name in names:
            if (op, name) in REGISTERED:
                table.add_row("", name, REGISTERED[op, name].origin)
    Console(soft_wrap=False).print(table)
    return 0
