"""An algorithm's speed beside that of ai3's own over sets of convolutions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from os import PathLike
from typing import Any

from ai3 import _core, timing
from ai3.ops import ON_CPU, ONLY_BY_NAME
from ai3.validation import shapes
from ai3.validation.case import Case
from ai3.validation.cases import SUITES
from ai3.validation.convolutions import convolution, gradients_of
from ai3.validation.trial import Trial, arrays_of

SECONDS = 0.1
"""For each algorithm of a case."""


@dataclass(frozen=True)
class Speed:
    """The times of one case in seconds, by algorithm: the validated one first, where it does not
    refuse. `flops` counts additions and multiplications of the definition, 0 where they are not
    known."""

    group: str
    case: str
    algorithm: str
    seconds: dict[str, float]
    flops: int = 0

    @property
    def best(self) -> str:
        """The fastest of the others."""
        others = {name: time for name, time in self.seconds.items() if name != self.algorithm}
        return min(others, key=lambda name: others[name])

    @property
    def ratio(self) -> float:
        """How many times as fast as the fastest of the others."""
        return self.seconds[self.best] / self.seconds[self.algorithm]


def groups_of(op: str) -> tuple[str, ...]:
    """The names of the sets that an operation is measured with."""
    convolutions = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv2d_grad_bias")
    return tuple(shapes.load()) if op in convolutions else ("named",)


def measured(
    op: str,
    algorithm: str,
    groups: Sequence[str],
    progress: Callable[[str], object] | None = None,
) -> Iterator[Speed]:
    """One for each case of the sets that the algorithm does not refuse, of float32 on as many
    threads as torch or OpenMP has now, in this process."""
    for group in groups:
        for name, case, flops in _cases(op, group):
            if progress:
                progress(f"{group}: {name} ...")
            sides = dict(_sides(case, algorithm))
            if algorithm in sides and len(sides) > 1:
                timings = timing.timed(sides, SECONDS)
                taken = {side: timings[side].seconds for side in sides}
                yield Speed(group, name, algorithm, taken, flops)


def mean_ratio(speeds: Sequence[Speed]) -> float:
    """The geometric mean."""
    return exp(sum(log(speed.ratio) for speed in speeds) / len(speeds))


def chart(speeds: Sequence[Speed], title: str, path: "str | PathLike[str]") -> None:
    """A row for each case, a dot for each algorithm: PNG, SVG or PDF, by the path's ending. Needs
    matplotlib."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(speed.group for speed in speeds))
    rows = {group: [speed for speed in speeds if speed.group == group] for group in groups}
    heights = [len(rows[group]) + 3 for group in groups]
    figure = Figure(figsize=(8, 1.2 + 0.22 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), squeeze=False, height_ratios=heights)
    algorithms = list(dict.fromkeys(name for speed in speeds for name in speed.seconds))
    markers = "DosvP^X*<>ph"
    for panel, group in zip(panels[:, 0], groups, strict=True):
        for i, name in enumerate(algorithms):
            places = [row for row, speed in enumerate(rows[group]) if name in speed.seconds]
            values = [_rate(rows[group][row], name) for row in places]
            own = name == speeds[0].algorithm
            panel.plot(
                values,
                places,
                markers[i % len(markers)],
                color="black" if own else f"C{i % 10}",
                markersize=7 if own else 4,
                label=name,
                alpha=1 if own else 0.7,
                zorder=3 if own else 2,
            )
        panel.set_yticks(range(len(rows[group])), [s.case for s in rows[group]], fontsize=7)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlabel("GFLOP/s" if rows[group][0].flops else "runs per second", fontsize=8)
        panel.set_title(group, loc="left", fontsize=9, fontweight="bold")
        panel.grid(axis="both", linewidth=0.4, alpha=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left", frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)


def _rate(speed: Speed, name: str) -> float:
    return (speed.flops / 1e9 if speed.flops else 1) / speed.seconds[name]


def _cases(op: str, group: str) -> Iterator[tuple[str, Case, int]]:
    if group == "named":
        for name, case in SUITES[op].named.items():
            if case.elements:
                yield name, case, 0
        return
    batch, convs = shapes.load()[group]
    for conv in convs:
        kernel = (conv.KH, conv.KW)
        forward = convolution((batch, conv.IC, conv.IH, conv.IW), conv.OC, kernel, conv.attributes)
        case = next(c for c in (forward, *gradients_of(forward)) if c.op == op)
        yield str(conv), case, batch * conv.flops


def _sides(case: Case, algorithm: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The algorithm, and ai3's own by the names that are no parts of another, plain 'winograd'
    takes the best of its tiles, and are not left to those who name them."""
    inputs, weights = arrays_of(Trial(case))
    specs = [_core.Spec(x.dtype.name, x.shape) for x in inputs]
    held = _core.Weights.of(weights)
    problem = _core.problem(case.op, specs, held, dict(case.attributes))
    for name in dict.fromkeys((algorithm, *ON_CPU[case.op])):
        part = " " in name and name.split()[0] in ON_CPU[case.op]
        unasked = part or name == "guess" or (case.op, name) in ONLY_BY_NAME
        if name != algorithm and (unasked or not problem.fusible(name)):
            continue
        if not problem.refusal(name):
            call = _core.Call(case.op, dict(case.attributes), name)
            call.set_weights(held)
            yield name, partial(call, *inputs)
