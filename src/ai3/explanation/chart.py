"""An explanation as a picture: the roofline with a dot for each layer, and a bar for each."""

from math import log2
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai3.explanation.explanation import Explanation, Layer

MOST_BARS = 60
MOST_NAMES = 8
COLOURS = {"compute": "#c2410c", "memory": "#1d4ed8"}


def chart(of: "Explanation", path: str | PathLike[str]) -> None:
    from matplotlib.figure import Figure

    ran = [layer for layer in of.layers if layer.ms > 0]
    bars = sorted(ran, key=lambda layer: -layer.ms)[:MOST_BARS]
    shown = [layer for layer in ran if layer in bars]
    height = 1.2 + 0.2 * max(1, len(shown))
    figure = Figure(figsize=(10, 4.2 + height), layout="constrained")
    above, below = figure.subplots(2, height_ratios=[4.2, height])
    _roofline(of, ran, above)
    _times(of, shown, len(ran), below)
    title = f"{of.title}: " if of.title else ""
    threads = f"{of.roofline.threads} thread{'s' * (of.roofline.threads != 1)}"
    figure.suptitle(f"{title}{of.ms:.2f} ms, {threads}", fontsize=11, x=0.02, ha="left")
    figure.savefig(path, dpi=120)


def _roofline(of: "Explanation", ran: "list[Layer]", panel: Any) -> None:
    from ai3.explanation.roofline import COMPUTE, MEMORY

    roof = of.roofline
    dots = [layer for layer in ran if layer.flops and layer.moved]
    reached = [layer.flops / layer.moved for layer in dots] or [1.0]
    peak = roof.peak("float32")
    ridge = peak / roof.bandwidth
    left, right = min(ridge / 8, *reached) / 2, max(4 * ridge, *reached) * 2
    panel.plot(
        [left, ridge, right],
        [left * roof.bandwidth, peak, peak],
        color="0.25",
        linewidth=1.2,
        zorder=1,
    )
    panel.text(right, peak * 1.06, f"{peak:.0f} GFLOP/s", ha="right", fontsize=8)
    low = f"{roof.bandwidth:.1f} GB/s"
    panel.text(left, 1.5 * left * roof.bandwidth, low, ha="left", va="bottom", fontsize=8)
    largest = max((layer.ms for layer in dots), default=1.0)
    for limit in (COMPUTE, MEMORY):
        chosen = [layer for layer in dots if of.limit(layer) == limit]
        panel.scatter(
            [layer.flops / layer.moved for layer in chosen],
            [layer.gflops for layer in chosen],
            s=[12 + 160 * layer.ms / largest for layer in chosen],
            color=COLOURS[limit],
            alpha=0.6,
            linewidths=0.5,
            edgecolors="white",
            label=f"limited by {limit}",
            zorder=2,
        )
    named: list[tuple[float, float]] = []
    for layer in sorted(dots, key=lambda layer: -layer.ms)[:MOST_NAMES]:
        place = (layer.flops / layer.moved, layer.gflops)
        if any(_is_near(place, other) for other in named):
            continue
        named.append(place)
        panel.annotate(
            layer.name,
            place,
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=7,
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("operations for each byte that is moved", fontsize=8)
    panel.set_ylabel("GFLOP/s of direct computation", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.legend(loc="lower right", fontsize=8, frameon=False)
    panel.grid(color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _is_near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two places on logarithmic scales are so near that one name would cover another."""
    return abs(log2(a[0] / b[0])) < 1.2 and abs(log2(a[1] / b[1])) < 0.35


def _times(of: "Explanation", shown: "list[Layer]", count: int, panel: Any) -> None:
    colours = [COLOURS[of.limit(layer)] for layer in shown]
    bars = panel.barh(range(len(shown)), [layer.ms for layer in shown], color=colours, alpha=0.8)
    texts = []
    for layer in shown:
        best = layer.best
        saves = f"; {best.algorithm} would save {best.gain:.2g}" if best and best.gain else ""
        texts.append(f"{layer.ms:.3g} ms, {of.share(layer):.1%}, {layer.algorithm}{saves}")
    panel.bar_label(bars, texts, padding=3, fontsize=7)
    panel.set_yticks(
        range(len(shown)), [f"{layer.name} ({layer.op})" for layer in shown], fontsize=7
    )
    panel.invert_yaxis()
    panel.margins(y=0.01)
    panel.set_xlim(0, 1.6 * max((layer.ms for layer in shown), default=1.0))
    panel.tick_params(axis="x", labelsize=8)
    panel.set_xlabel("ms", fontsize=8)
    if len(shown) < count:
        panel.set_title(f"the {len(shown)} of {count} that take most", fontsize=8, loc="left")
    panel.spines[["top", "right"]].set_visible(False)
