"""`ai3 bench`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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
from ai3.commands.output import Json, show, show_json
from ai3.progress import progress


def add_to(app: typer.Typer) -> None:
    app.command("bench", short_help="Time a network in torch and by ai3.")(bench)


def bench(
    network: Network,
    shape: Shapes = None,
    batch: Batch = None,
    threads: Threads = None,
    algorithm: Algorithms = None,
    precision: Precision = "float32",
    plan: Chosen = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each of those compared.")] = 2,
    pretrained: Pretrained = False,
    json: Json = False,
) -> None:
    """Time a network in torch, with its convolutions swapped, and as a whole by ai3.

    They take turns, and medians count; what each computes is compared with torch's result first.
    """
    from ai3.machine import Watch
    from ai3.timing import timed

    networks.set_threads(threads)
    with progress(f"{network} ...") as update:
        found = networks.load(network, shape, batch, pretrained)
        sides = _sides(found, algorithm, precision, plan)
        update(f"{network}: comparing results ...")
        apart = _apart(sides)
        update(f"{network}: timing {len(sides) * seconds:.0f} s ...")
        timings = timed(sides, seconds, watch=Watch())
    rows = [
        {
            "side": name,
            "ms": 1e3 * timing.seconds,
            "speed": timing.ratio,
            "difference": apart[name],
        }
        for name, timing in timings.items()
    ]
    shapes = ["x".join(map(str, x.shape)) for x in found.inputs if hasattr(x, "shape")]
    count, state = ai3._core.max_threads(), next(iter(timings.values())).state
    if json:
        show_json(
            {"network": network, "shapes": shapes, "threads": count, "state": state, "sides": rows}
        )
        return
    from ai3.columns import Column, table

    title = f"{network}, {' and '.join(shapes)}, {count} thread{'s' * (count != 1)}"
    title += f", processors {state}" * (count > 1)
    columns = [Column("", least=12)]
    columns += [Column(heading, right=True) for heading in ("ms", "speed", "difference")]
    cells = [
        [
            str(row["side"]),
            f"{row['ms']:.3f}",
            f"{row['speed']:.2f}x",
            "" if row is rows[0] else f"{row['difference']:.1e}",
        ]
        for row in rows
    ]
    show(table(title, columns, cells, 80))
    if len(rows) > 1:
        show("speed and difference (relative L2, of outputs) are against the first line")


def _sides(
    found: networks.Loaded, algorithms: list[str] | None, precision: str, plan: Path | None
) -> dict[str, Callable[[], Any]]:
    model = found.model(algorithms, precision, plan)
    sides: dict[str, Callable[[], Any]] = {}
    if not isinstance(found.network, ai3.Model):
        import copy

        import torch

        swapped = copy.deepcopy(found.network)
        networks.swap_conv2d(swapped, algorithms, plan)

        def side(module: Any) -> Callable[[], Any]:
            @torch.inference_mode()
            def call() -> Any:
                return module(*found.inputs)

            return call

        sides = {"torch": side(found.network), "convolutions swapped": side(swapped)}
    return {**sides, "ai3": lambda: model(*found.inputs)}


def _apart(sides: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The relative L2 difference of each side's outputs from the first's."""
    import numpy as np

    from ai3 import arrays

    def flat(result: Any) -> Any:
        found: list[Any] = []
        arrays.each(result, found.append)
        return np.concatenate([_float64(array).ravel() for array in found])

    first = None
    apart = {}
    for name, call in sides.items():
        result = flat(call())
        first = result if first is None else first
        apart[name] = float(np.linalg.norm(result - first) / (np.linalg.norm(first) or 1))
    return apart


def _float64(array: Any) -> Any:
    from ai3 import arrays

    return arrays.to_numpy(array.double() if arrays.is_torch(array) else array).astype("float64")
