"""What is known of each layer of a network after it ran."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any

from ai3.explanation.roofline import Roofline

MEASURED, ESTIMATED = "measured", "estimated"


@dataclass(frozen=True)
class Alternative:
    """Another algorithm for a layer: the `ms` that it took when it was measured on this machine,
    or would take by estimate, what that is (`source`), and what changing to it saves (`gain`, ms);
    or why it cannot do the layer (`refusal`). `error` is its own, relative to float64, where that
    was measured. None is what is not known. `rounds` tells that it rounds to bfloat16 what the
    layer does not."""

    algorithm: str
    ms: float | None = None
    source: str = ""
    gain: float | None = None
    refusal: str = ""
    rounds: bool = False
    error: float | None = None


@dataclass(frozen=True)
class Layer:
    """One node of a network as it ran.

    Attributes:
        name: what the user knows it by: a module's qualified name, or that of its value.
        id: its name among the network's nodes, which is its own.
        inputs: the ids of the nodes whose outputs it reads; others are inputs and constants.
        why: how it came to its algorithm.
        why_dtype: how its output came to its type.
        ms: the median time.
        flops: multiplications and additions of direct computation, by which an algorithm that does
            with fewer reaches more than the processor's peak; 0 where they do not count.
        moved: bytes of its inputs, its output, and the weights as the algorithm holds them; they
            are read faster than memory gives them where a cache holds them.
        error: relative L2 distance of its output from that in float64 of the same inputs.
        drift: the same from the output of the whole network in float64 up to here.
        packed_bytes: of weights that the algorithm holds beside the network's own.
        workspace_bytes: that it needs while it runs.
        output_bytes: of its result.
    """

    name: str
    id: str
    op: str
    algorithm: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    layout: str
    why: str
    why_dtype: str
    ms: float
    flops: int = 0
    moved: int = 0
    error: float | None = None
    drift: float | None = None
    packed_bytes: int = 0
    workspace_bytes: int = 0
    output_bytes: int = 0
    alternatives: tuple[Alternative, ...] = ()

    @property
    def gflops(self) -> float:
        return self.flops / self.ms / 1e6 if self.ms else 0.0

    @property
    def gbytes(self) -> float:
        return self.moved / self.ms / 1e6 if self.ms else 0.0

    @property
    def added_bytes(self) -> int:
        """The memory that it adds: packed weights, workspace and output."""
        return self.packed_bytes + self.workspace_bytes + self.output_bytes

    @property
    def best(self) -> Alternative | None:
        """The other algorithm that saves most, of those that are as exact in kind; None where none
        would save anything."""
        gaining = [a for a in self.alternatives if a.gain is not None and not a.rounds]
        best = max(gaining, key=lambda a: a.gain or 0.0, default=None)
        return best if best is not None and (best.gain or 0.0) > 0 else None


@dataclass(frozen=True)
class Explanation:
    """What each layer took, in the order in which they run: print it, index it by a layer's name to
    print all that is known of one, or take its `json()`, `chart(path)` or `html(path)`.

    Attributes:
        layers: what ran.
        roofline: what the machine can do at most.
        ms: the time of the whole network, of which the layers' is a part.
        error: the relative L2 distance of the outputs from the network's in float64, the largest of
            several; None where it is not known.
        weight_bytes: of the network's own weights.
        arena_bytes: in which a `Model` keeps the values between its nodes; 0 where torch does.
        state: of the machine while it ran, see `ai3.machine`.
    """

    layers: tuple[Layer, ...]
    roofline: Roofline
    ms: float
    error: float | None = None
    weight_bytes: int = 0
    arena_bytes: int = 0
    state: str = ""
    title: str = ""

    def __getitem__(self, name: str) -> Any:
        """All that is known of the layers of this name: print it."""
        from ai3.errors import unknown_name
        from ai3.explanation.text import Detail

        found = [layer for layer in self.layers if name in (layer.name, layer.id)]
        if not found:
            raise unknown_name("layer", name, dict.fromkeys(layer.name for layer in self.layers))
        return Detail(self, tuple(found))

    def share(self, layer: Layer) -> float:
        """Of the network's time."""
        return layer.ms / self.ms if self.ms else 0.0

    def peak_share(self, layer: Layer) -> float:
        """Of the multiply-adds that the processor does at most."""
        return layer.gflops / self.roofline.peak(layer.dtype)

    def memory_share(self, layer: Layer) -> float:
        """Of the bytes that memory gives at most."""
        return layer.gbytes / self.roofline.bandwidth

    def limit(self, layer: Layer) -> str:
        """ "compute" or "memory": which of the two it meets first."""
        return self.roofline.limit(layer.flops, layer.moved, layer.dtype)

    @property
    def changes(self) -> list[tuple[Layer, Alternative]]:
        """The layers for which another algorithm would save time, with that, the most first."""
        found = [(layer, layer.best) for layer in self.layers if layer.best is not None]
        return sorted(found, key=lambda pair: -(pair[1].gain or 0.0))

    def as_dict(self) -> dict[str, Any]:
        """What `json` writes."""
        rows = [
            {
                **asdict(layer),
                "share": self.share(layer),
                "gflops": layer.gflops,
                "peak_share": self.peak_share(layer),
                "gbytes": layer.gbytes,
                "memory_share": self.memory_share(layer),
                "limit": self.limit(layer),
                "added_bytes": layer.added_bytes,
            }
            for layer in self.layers
        ]
        return {
            "title": self.title,
            "threads": self.roofline.threads,
            "state": self.state,
            "peak_gflops": dict(self.roofline.gflops),
            "bandwidth_gbytes": self.roofline.bandwidth,
            "ms": self.ms,
            "error": self.error,
            "weight_bytes": self.weight_bytes,
            "arena_bytes": self.arena_bytes,
            "layers": rows,
        }

    def json(self) -> str:
        """All figures: of the network, and for each layer its fields, shares and alternatives.
        Times are in ms, sizes in bytes, rates in GFLOP/s and GB/s; what is unknown is null."""
        return json.dumps(_finite(self.as_dict()), indent=1)

    def chart(self, path: str | PathLike[str]) -> None:
        """Write the roofline and the layers' times: PNG, SVG or PDF, by the path's ending. Needs
        matplotlib."""
        from ai3.explanation.chart import chart

        chart(self, path)

    def html(self, path: str | PathLike[str]) -> None:
        """Write one page that holds all, for a browser; it needs nothing else, nor a network."""
        from ai3.explanation.page import page

        Path(path).write_text(page(self), encoding="utf-8")

    def __str__(self) -> str:
        """A table that fits 80 columns."""
        from ai3.columns import plain

        return plain(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from ai3.explanation.text import overview

        yield from overview(self, options.max_width)


def _finite(value: Any) -> Any:
    """The same without the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    return value
