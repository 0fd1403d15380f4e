"""An explanation as tables of text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai3.columns import Column, plain, table
from ai3.report import LEAST_NAME, LEAST_OPERATION, SHORT

if TYPE_CHECKING:
    from ai3.explanation.explanation import Alternative, Explanation, Layer

_STATES = {"apart": "a core each", "shared": "which share a core"}
"""What the states of `ai3.machine` mean."""

MOST_CHANGES = 10
LEAST_CHANGE = 0.002
"""Of the network's time: changes that save less are not listed."""


def overview(of: "Explanation", width: int) -> Iterator[Any]:
    """What rich prints of it: the machine and the network, a line or two for each layer, and what
    changing would save."""
    from rich.text import Text

    yield Text("\n".join(_summary(of)))
    yield Text("")
    columns = [
        Column("layer", least=LEAST_NAME),
        Column("operation", least=LEAST_OPERATION),
        Column("algorithm"),
        Column("type"),
        *(Column(heading, right=True) for heading in ("ms", "share", "of peak", "of memory")),
        Column("limit"),
        *(Column(heading, right=True) for heading in ("error", "adds")),
    ]
    ran = [layer for layer in of.layers if layer.ms]
    yield table("", columns, [_row(of, layer) for layer in ran], width)
    yield Text("")
    if free := len(of.layers) - len(ran):
        yield Text(
            f"{free} node{'s' * (free > 1)} that cost{'s' * (free == 1)} nothing not listed."
        )
    yield Text("\n".join(_legend()), "dim")
    changes = [(la, a) for la, a in of.changes if (a.gain or 0.0) > LEAST_CHANGE * of.ms]
    if not changes:
        yield Text("\nNo other algorithm is known to save time.")
        return
    yield Text("")
    rows = [
        [
            *(layer.name, layer.algorithm, other.algorithm),
            *(f"{layer.ms:.3f}", f"{other.ms:.3f}", f"{(other.gain or 0.0) / of.ms:.1%}"),
            other.source,
        ]
        for layer, other in changes[:MOST_CHANGES]
    ]
    more = len(changes) - MOST_CHANGES
    title = "What changing would save" + (f" (and {more} layers more)" if more > 0 else "")
    yield table(
        title,
        [
            Column("layer", least=LEAST_NAME),
            *(Column("from"), Column("to")),
            *(Column(heading, right=True) for heading in ("ms", "would be", "saves")),
            Column("which is"),
        ],
        rows,
        width,
    )


def _summary(of: "Explanation") -> Iterator[str]:
    threads = of.roofline.threads
    state = f" ({_STATES.get(of.state, of.state)})" * (threads > 1 and bool(of.state))
    if of.title:
        yield of.title
    error = "" if of.error is None else f", {of.error:.1e} from the result in float64"
    yield f"{of.ms:.2f} ms on {threads} thread{'s' * (threads != 1)}{state}{error}"
    peaks = of.roofline.gflops
    bfloat16 = f", {peaks['bfloat16']:.0f} in bfloat16" if peaks.get("bfloat16") else ""
    yield f"The processor does at most {peaks['float32']:.0f} GFLOP/s in float32{bfloat16},"
    yield f"memory gives {of.roofline.bandwidth:.1f} GB/s"
    packed = sum(layer.packed_bytes for layer in of.layers)
    workspace = max((layer.workspace_bytes for layer in of.layers), default=0)
    between = f", {in_bytes(of.arena_bytes)} between layers" if of.arena_bytes else ""
    yield f"Weights {in_bytes(of.weight_bytes)}; beside them {in_bytes(packed)} packed,"
    yield f"{in_bytes(workspace)} of workspace{between}"


def _row(of: "Explanation", layer: "Layer") -> list[str]:
    return [
        *(layer.name, layer.op, layer.algorithm, SHORT.get(layer.dtype, layer.dtype)),
        *(f"{layer.ms:.3f}", f"{of.share(layer):.1%}"),
        f"{of.peak_share(layer):.0%}" if layer.flops else "",
        f"{of.memory_share(layer):.0%}",
        of.limit(layer),
        "" if layer.error is None else f"{layer.error:.0e}",
        in_bytes(layer.added_bytes),
    ]


def _legend() -> Iterator[str]:
    yield "of peak: of the multiply-adds the processor does; above 100% where an algorithm"
    yield "needs fewer than direct computation. of memory: of the bytes that memory gives;"
    yield "above 100% where caches give them. error: from float64 of the same inputs."
    yield "adds: packed weights, workspace and output."


@dataclass(frozen=True)
class Detail:
    """All that is known of layers of one name, for rich and as text."""

    of: "Explanation"
    layers: "tuple[Layer, ...]"

    def __str__(self) -> str:
        return plain(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        for layer in self.layers:
            yield Text("\n".join(_facts(self.of, layer)))
            yield _alternatives(layer, options.max_width)


def _facts(of: "Explanation", layer: "Layer") -> Iterator[str]:
    shape = "x".join(map(str, layer.shape))
    yield f"{layer.name}: {layer.op} by {layer.algorithm!r}, {layer.why}"
    yield f"gives {shape} {layer.layout}, {layer.why_dtype}"
    yield f"{layer.ms:.3f} ms, {of.share(layer):.1%} of the network; limited by {of.limit(layer)}:"
    peak = f"{layer.gflops:.0f} GFLOP/s, {of.peak_share(layer):.0%} of the peak; "
    memory = f"{layer.gbytes:.1f} GB/s, {of.memory_share(layer):.0%} of what memory gives"
    yield f"  {peak * bool(layer.flops)}{memory}"
    if layer.error is not None:
        drift = "" if layer.drift is None else f"; with all before it {layer.drift:.1e}"
        yield f"error against float64 {layer.error:.1e}{drift}"
    parts = (layer.packed_bytes, layer.workspace_bytes, layer.output_bytes)
    packed, workspace, output = map(in_bytes, parts)
    yield f"adds {packed} of packed weights, {workspace} of workspace, {output} of output"


def _alternatives(layer: "Layer", width: int) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not layer.alternatives:
        return Text(f"{layer.op} has no other algorithm\n")
    view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), width=width)
    view.add_column("instead", no_wrap=True)
    view.add_column("ms", justify="right", no_wrap=True)
    view.add_column("saves", justify="right", no_wrap=True)
    view.add_column("which is", overflow="fold")
    for other in layer.alternatives:
        unknown = "there is no estimate of its time"
        note = other.source and ", ".join(_notes(other))
        view.add_row(
            other.algorithm,
            "" if other.ms is None else f"{other.ms:.3f}",
            "" if other.gain is None else f"{other.gain:+.3f}",
            f"refused: {other.refusal}" if other.refusal else note or unknown,
        )
    return view


def _notes(other: "Alternative") -> Iterator[str]:
    yield other.source
    if other.error is not None:
        yield f"error {other.error:.0e}"
    if other.rounds:
        yield "rounds to bfloat16"


def in_bytes(count: int) -> str:
    """Bytes in the unit that suits them, of three digits."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    if unit == "B":
        return f"{count} B" if count else "0"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
