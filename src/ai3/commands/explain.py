"""`ai3 explain`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import ai3
from ai3.commands import networks
from ai3.commands.networks import (
    Algorithms,
    Batch,
    Chosen,
    Network,
    Precision,
    Pretrained,
    Shapes,
    Threads,
)
from ai3.commands.output import Json, show
from ai3.progress import progress


def add_to(app: typer.Typer) -> None:
    app.command("explain", short_help="Tell what each layer of a network takes, and why.")(explain)


def explain(
    network: Network,
    shape: Shapes = None,
    batch: Batch = None,
    threads: Threads = None,
    algorithm: Algorithms = None,
    precision: Precision = "float32",
    plan: Chosen = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Swap the convolutions of the torch network, and explain these, instead of "
            "converting the whole network.",
        ),
    ] = False,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tell all of one layer, refusals of algorithms too."),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of how many runs times are medians.")
    ] = 5,
    errors: Annotated[
        bool, typer.Option(help="Compute all in float64 too, for the errors.")
    ] = True,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one page for a browser that shows everything."),
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a chart.")] = None,
    pretrained: Pretrained = False,
    json: Json = False,
) -> None:
    """Tell what each layer of a network takes, and why not by another algorithm.

    For each layer: its algorithm, its time, what limits it (the processor or memory), its error
    against float64, the memory it adds; and what another algorithm would save.
    """
    networks.set_threads(threads)
    with progress(f"{network} ...") as update:
        found = networks.load(network, shape, batch, pretrained)
        if in_place:
            if isinstance(found.network, ai3.Model):
                raise ValueError("--in-place is for networks of torch, not for saved models")
            explained = found.network
            networks.swap_conv2d(explained, algorithm, plan)
        else:
            explained = found.model(algorithm, precision, plan)
        update(f"{network}: running ...")
        result = ai3.explain(explained, *found.inputs, repeat=repeat, errors=errors)
    shapes = " and ".join("x".join(map(str, x.shape)) for x in found.inputs)
    result = replace(result, title=f"{found.name}, {shapes}")
    shown = result if layer is None else result[layer]
    if json:
        print(result.json())
    else:
        show(shown)
    for path, write in ((html, result.html), (png, result.chart)):
        if path is not None:
            write(path)
            typer.echo(f"wrote {path}", err=json)
