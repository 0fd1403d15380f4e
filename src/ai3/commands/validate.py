"""`ai3 validate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import ai3
from ai3 import algorithms, compiled
from ai3.algorithms import REGISTERED
from ai3.commands.output import WRONG, show
from ai3.errors import unknown_name
from ai3.progress import progress
from ai3.validation import shapes


def add_to(app: typer.Typer) -> None:
    app.command("validate", short_help="Try an algorithm with all that it claims to do.")(validate)


def completed(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the empty value of a `--bench` that has none: the usual set."""
    found = list(arguments)
    for i, argument in enumerate(found):
        if argument == "--bench" and (i + 1 == len(found) or found[i + 1].startswith("-")):
            found[i] = "--bench="
    return found


def validate(
    algorithm: Annotated[str, typer.Argument(help="A C++ or Python file, or an algorithm's name.")],
    op: Annotated[str, typer.Option(help="The operation that it computes.")],
    name: Annotated[
        str | None, typer.Option(help="Of the algorithm, where a Python file adds several.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="After which no more cases are begun.")] = 90,
    examples: Annotated[int, typer.Option(help="How many random cases.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the random cases.")] = 0,
    tolerance: Annotated[
        float | None, typer.Option(help="The error that is allowed, in those of a plain sum.")
    ] = None,
    bench: Annotated[
        str | None,
        typer.Option(
            metavar="[SET,SET]",
            help="Measure the speed beside ai3's own algorithms; of convolutions over these sets "
            f"(by default resnet18): {', '.join(shapes.load())}.",
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a chart of the speeds.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures; - prints them alone.")
    ] = None,
) -> None:
    """Try an algorithm with everything that it claims to do.

    Exits with 0 where nothing was wrong and something right, with 1 where not, and with 2 where
    there was nothing to try.
    """
    from ai3.validation import speed
    from ai3.validation import validate as by

    if op not in ai3.SUPPORTED_ALGORITHMS:
        raise unknown_name("operation", op, ai3.SUPPORTED_ALGORITHMS)
    file, name = _file_and_name(algorithm, op, name)
    known = speed.groups_of(op)
    usual = "resnet18" if "resnet18" in known else known[0]
    asked = None if bench is None and png is None else bench or usual
    with progress(f"{op} {name!r} ...") as update:
        found = by.validate(
            op,
            name,
            file=file,
            seconds=seconds,
            examples=examples,
            seed=seed,
            tolerance=tolerance,
            bench=() if asked is None else asked.split(","),
            progress=update,
        )
    if json == Path("-"):
        print(found.json())
    else:
        show(found)
        if json:
            json.write_text(found.json() + "\n")
    if png and found.speeds:
        found.chart(png)
    elif asked is not None and not found.speeds:
        why = "it is wrong" if found.wrong else "all is refused"
        typer.echo(f"the speed was not measured: {why}", err=json == Path("-"))
    raise typer.Exit(0 if found.ok else WRONG)


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
