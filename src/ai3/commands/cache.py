"""`ai3 cache`."""

from pathlib import Path
from typing import Annotated

import typer

from ai3 import cache as folders
from ai3 import tuning
from ai3.commands.output import Json, show, show_json

app = typer.Typer(
    help="What ai3 keeps on this machine: measured times, and algorithms that were compiled.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Of times.")]


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="cache", short_help="What is kept on this machine.")


@app.command()
def info(json: Json = False) -> None:
    """Tell what is kept, and where."""
    from ai3.tuning import whole

    folder, machines = folders.folder(), whole.summary()
    compiled = [path for path in folder.rglob("*.so") if path.is_file()]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if json:
        rows = [{**each._asdict(), "machine": each.machine._asdict()} for each in machines]
        sizes = {"folder": str(folder), "bytes": size, "compiled": len(compiled)}
        show_json({**sizes, "machines": rows})
        return
    from ai3.explanation.text import in_bytes

    show(f"{folder}, {in_bytes(size)}")
    here = [each for each in machines if each.here]
    show(f"{sum(each.times for each in here)} measured times that are used here")
    for each in machines:
        used = "" if each.here else ", not used here"
        kernels = f"{each.machine.processor}, {each.machine.level}, kernels {each.machine.kernels}"
        show(f"  {each.times} of {each.problems} problems: {kernels}{used}")
    show(f"{len(compiled)} compiled algorithms")


@app.command()
def path(json: Json = False) -> None:
    """Print the folder. AI3_CACHE_DIR names another."""
    if json:
        show_json({"folder": str(folders.folder())})
    else:
        typer.echo(folders.folder())


@app.command()
def clear(json: Json = False) -> None:
    """Forget all measured times. Compiled algorithms stay."""
    from ai3.tuning import database

    file = database.path()
    existed = file.exists()
    tuning.clear()
    if json:
        show_json({"file": str(file), "removed": existed})
    else:
        show(f"{file} is removed" if existed else "nothing was measured yet")


@app.command("export")
def export(file: File, json: Json = False) -> None:
    """Write the measured times to a file, for machines of the same kind."""
    count = tuning.export(file)
    if json:
        show_json({"file": str(file), "measured": count})
    else:
        show(f"{count} measured times written to {file}")


@app.command("import")
def import_(file: File, json: Json = False) -> None:
    """Add the measured times of a file that `ai3 cache export` wrote.

    Of these, times that were measured on a machine of the same kind, by the same version of the
    kernels, are used from then on.
    """
    count = tuning.import_(file)
    if json:
        show_json({"file": str(file), "of_use": count})
    else:
        show(f"{count} measured times of {file} are of use here")
