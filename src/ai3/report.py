"""What each node of a model took, for people and for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from os import PathLike
from typing import Any

from ai3 import _core
from ai3.graph.graph import Node


@dataclass(frozen=True)
class NodeProfile:
    """One node of a model as it ran: `ms` is the median time, 0 for what costs nothing; `flops`
    are the multiplications and additions of direct computation, 0 where they do not count."""

    name: str
    op: str
    algorithm: str
    shape: tuple[int, ...]
    ms: float
    flops: int = 0
    layout: str = ""
    dtype: str = ""

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.ms / 1e6 if self.ms else 0.0

    def with_ms(self, ms: float) -> "NodeProfile":
        return replace(self, ms=ms)


class Report:
    """What each node of a model took in one run, in the order in which they run."""

    def __init__(self, nodes: Sequence[NodeProfile], threads: int) -> None:
        self.nodes = tuple(nodes)
        self.threads = threads

    @property
    def ms(self) -> float:
        """The time of all nodes."""
        return sum(node.ms for node in self.nodes)

    def share(self, node: NodeProfile) -> float:
        return node.ms / self.ms if self.ms else 0.0

    def json(self) -> str:
        """The figures: {"threads", "ms", "nodes": [{"name", "op", "algorithm", "shape", "ms",
        "flops", "layout", "dtype", "gflops", "share"}]}."""
        rows: list[dict[str, Any]] = [
            {**asdict(node), "gflops": node.gflops, "share": self.share(node)}
            for node in self.nodes
        ]
        return json.dumps({"threads": self.threads, "ms": self.ms, "nodes": rows}, indent=1)

    def __str__(self) -> str:
        """A table that fits 80 columns, in two lines for each node where one would not hold its
        figures; names may be cut in the middle."""
        from ai3.columns import plain

        return plain(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from ai3.columns import Column, table

        title = f"{self.ms:.2f} ms, {self.threads} thread{'s' * (self.threads != 1)}"
        layouts = any(node.layout for node in self.nodes)
        narrow = any(node.dtype == "bfloat16" for node in self.nodes)
        columns = [
            Column("node", least=LEAST_NAME),
            Column("operation", least=LEAST_OPERATION),
            Column("algorithm"),
            *([Column("type")] if narrow else []),
            *([Column("layout")] if layouts else []),
            Column("shape"),
            *(Column(heading, right=True) for heading in ("ms", "GFLOP/s", "share")),
        ]
        rows = [
            [
                *(node.name, node.op, node.algorithm),
                *([SHORT.get(node.dtype, node.dtype)] if narrow else []),
                *([SHORT.get(node.layout, node.layout)] if layouts else []),
                "x".join(map(str, node.shape)),
                f"{node.ms:.3f}",
                f"{node.gflops:.0f}" if node.flops and node.ms else "",
                f"{self.share(node):.1%}",
            ]
            for node in self.nodes
        ]
        yield table(title, columns, rows, options.max_width)

    def chart(self, path: str | PathLike[str]) -> None:
        """Write a chart of the times, a bar for each node that took any: PNG, SVG or PDF, by the
        path's ending. Needs matplotlib."""
        from matplotlib.figure import Figure

        rows = [node for node in self.nodes if node.ms > 0]
        figure = Figure(figsize=(8, 1 + 0.2 * max(1, len(rows))), layout="constrained")
        panel = figure.subplots()
        colours = {op: f"C{i % 10}" for i, op in enumerate(dict.fromkeys(n.op for n in rows))}
        bars = panel.barh(
            range(len(rows)), [n.ms for n in rows], color=[colours[n.op] for n in rows]
        )
        texts = [f"{n.ms:.3g} ms, {self.share(n):.1%}, {n.algorithm}" for n in rows]
        panel.bar_label(bars, texts, padding=3, fontsize=6)
        panel.set_yticks(range(len(rows)), [f"{n.name} ({n.op})" for n in rows], fontsize=6)
        panel.invert_yaxis()
        panel.margins(x=0.3, y=0.01)
        panel.set_xlabel("ms")
        panel.set_title(f"{self.ms:.2f} ms, {self.threads} threads", fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110)


def operations_of(node: Node, problem: _core.Problem) -> int:
    """The multiplications and additions that the node's result takes by its definition, for the
    operations that are made of them."""
    output = prod(problem.output.shape)
    shapes = [spec.shape for spec in problem.inputs]
    weight = node.weights[0] if node.weights else None
    taps: int = 0 if weight is None else prod(weight.shape[1:])
    if node.op in ("conv2d", "linear"):
        return 2 * output * taps
    if node.op == "expand_depthwise":
        depthwise = node.weights[2]
        assert depthwise is not None
        pixels = prod(shapes[0]) // taps
        return 2 * (pixels * taps * len(depthwise) + output * int(prod(depthwise.shape[1:])))
    if node.op == "conv_transpose2d":
        return 2 * prod(shapes[0]) * taps
    if node.op == "matmul":
        return 2 * output * shapes[0][-1]
    if node.op == "scaled_dot_product_attention":
        return 2 * prod(shapes[0][:-1]) * shapes[1][-2] * (shapes[0][-1] + shapes[2][-1])
    return 0


LEAST_NAME, LEAST_OPERATION = 14, 9
"""How many characters stay of a name, and of an operation's, at least."""

SHORT = {"bfloat16": "bf16", "float32": "f32", "float64": "f64", "channels_last": "last"}
"""What types and layouts are called where there is little room."""
