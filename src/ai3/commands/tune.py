"""`ai3 tune`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import ai3
from ai3.commands import networks
from ai3.commands.networks import (
    Algorithms,
    Batch,
    Network,
    Precision,
    Pretrained,
    Shapes,
    Threads,
)
from ai3.commands.output import Json, show, show_json
from ai3.progress import progress


def add_to(app: typer.Typer) -> None:
    app.command("tune", short_help="Measure which algorithms are the fastest here.")(tune)


def tune(
    network: Network,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was chosen, for swap_backend(plan=FILE)."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long it may take.")] = 60,
    accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="1e-5",
            help="How far the outputs may be from those in float64: their relative L2 error.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="1.5x",
            help="What the model may add to the process, in bytes or as a multiple of its weights.",
        ),
    ] = None,
    shape: Shapes = None,
    batch: Batch = None,
    threads: Threads = None,
    algorithm: Algorithms = None,
    precision: Precision = "float32",
    pretrained: Pretrained = False,
    json: Json = False,
) -> None:
    """Measure which algorithms and layouts are the fastest for a network on this machine.

    Each problem is measured once, whatever network has it: what is found is kept, and used wherever
    "default" chooses, in every process. Ctrl-C stops it with what it has found.
    """
    networks.set_threads(threads)
    with progress(f"{network} ..."):
        found = networks.load(network, shape, batch, pretrained)
        model = found.model(algorithm, precision)
    tuned = ai3.tune(
        model, *found.inputs, seconds=seconds, accuracy=accuracy, memory=_memory(memory)
    )
    assert tuned.plan is not None  # that of a model
    if plan is not None:
        tuned.plan.save(plan)
    if json:
        show_json(_document(tuned))
    else:
        show(str(tuned))
        show("`ai3 explain` tells more, with the times that were measured")
    if plan is not None:
        typer.echo(f"wrote {plan}", err=json)


def _memory(text: str | None) -> int | str | None:
    return int(text) if text is not None and re.fullmatch(r"\d+", text) else text


def _document(tuned: Any) -> dict[str, Any]:
    names = (
        *("kept", "before_ms", "after_ms", "state", "measured", "known", "seconds", "stopped"),
        *("bytes", "error", "cost_ms", "gap", "notes"),
    )
    nodes = [
        {"node": node.label, "operation": node.op, "algorithm": node.algorithm, "ms": node.ms}
        for node in tuned.plan.nodes
    ]
    return {**{name: getattr(tuned, name) for name in names}, "nodes": nodes}
