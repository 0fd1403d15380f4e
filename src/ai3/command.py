"""The command `ai3`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import ai3
from ai3 import algorithms, compiled
from ai3.algorithms import REGISTERED
from ai3.progress import progress

WRONG, MISUSED = 1, 2
"""What the command exits with."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("ai3", description="What runs the layers of your networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "algorithms", help="list the algorithms, and where those that were added come from"
    )
    listing.add_argument("op", nargs="?", help="of this operation alone")
    listing.set_defaults(run=_algorithms)
    _add_validate(commands)
    given = parser.parse_args(arguments)
    return int(given.run(given) or 0)


def _add_validate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from ai3.validation import shapes

    sets = ", ".join(shapes.load())
    parser = commands.add_parser(
        "validate",
        help="try an algorithm with everything that it claims to do",
        description="Exits with 0 where nothing was wrong and something right, with 1 where not, "
        "and with 2 where there was nothing to try.",
    )
    parser.add_argument("algorithm", help="a C++ or Python file, or an algorithm's name")
    parser.add_argument("--op", required=True, help="the operation that it computes")
    parser.add_argument("--name", help="of the algorithm, where a Python file adds several")
    parser.add_argument(
        "--seconds", type=float, default=90, help="after which no more cases are begun (90)"
    )
    parser.add_argument("--examples", type=int, default=500, help="random cases (500)")
    parser.add_argument("--seed", type=int, default=0, help="of the random cases (0)")
    parser.add_argument(
        "--tolerance", type=float, help="the error that is allowed, in those of a plain sum"
    )
    parser.add_argument(
        "--bench",
        nargs="?",
        const="",
        metavar="SET,SET",
        help="measure the speed beside ai3's own algorithms; of convolutions over these sets "
        f"(resnet18): {sets}",
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a chart of the speeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.set_defaults(run=_validate)


def _validate(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ai3.validation import speed, validate

    try:
        if given.op not in ai3.SUPPORTED_ALGORITHMS:
            raise ai3.errors.unknown_name("operation", given.op, ai3.SUPPORTED_ALGORITHMS)
        file, name = _file_and_name(given.algorithm, given.op, given.name)
        known = speed.groups_of(given.op)
        usual = "resnet18" if "resnet18" in known else known[0]
        asked = None if given.bench is None and given.png is None else given.bench or usual
        with progress(f"{given.op} {name!r} ...") as show:
            found = validate.validate(
                given.op,
                name,
                file=file,
                seconds=given.seconds,
                examples=given.examples,
                seed=given.seed,
                tolerance=given.tolerance,
                bench=() if asked is None else asked.split(","),
                progress=show,
            )
    except (ValueError, OSError) as error:
        print(f"ai3: {error}", file=sys.stderr)
        return MISUSED
    Console().print(found, highlight=False, crop=False)
    if given.json:
        given.json.write_text(found.json() + "\n")
    if given.png and found.speeds:
        found.chart(given.png)
    elif asked is not None and not found.speeds:
        print("the speed was not measured: " + ("it is wrong" if found.wrong else "all is refused"))
    return 0 if found.ok else WRONG


def _file_and_name(algorithm: str, op: str, name: str | None) -> tuple[str | None, str]:
    """The file, if it is one, and the algorithm's name."""
    path = Path(algorithm)
    if path.suffix != ".py":
        is_file = path.suffix in compiled.SUFFIXES or path.exists()
        return (algorithm, name or path.stem) if is_file else (None, algorithm)
    before = set(REGISTERED)
    algorithms.load_file(path)
    added = [other for of, other in REGISTERED if of == op and (of, other) not in before]
    if name is None and len(added) != 1:
        what = f"adds {', '.join(map(repr, added))}" if added else "adds no algorithm"
        raise ValueError(f"{path} {what} of {op}: name one with --name")
    return algorithm, name or added[0]


def _algorithms(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    if given.op is not None and given.op not in ai3.SUPPORTED_ALGORITHMS:
        print(f"ai3: there is no operation {given.op!r}: see `ai3 algorithms`")
        return MISUSED
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
