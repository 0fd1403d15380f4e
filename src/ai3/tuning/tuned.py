"""What tuning came to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ai3.plan import Plan
from ai3.selector import Conv2dAlgorithms


@dataclass(frozen=True)
class Tuned(Mapping[str, Conv2dAlgorithms]):
    """What `tune` chose: print it, hand it to `swap_backend` or `swap_conv2d`, or save its `plan`.

    As a mapping it is the selector of `swap_conv2d`: from the names of modules to algorithms.

    Attributes:
        plan: what `swap_backend` then does; None for a network that it cannot convert.
        modules: what `swap_conv2d` then does.
        in_place: the same as a plan, to save; None for a model.
        kept: whether the choice is what was measured. Where the whole network was not faster by it,
            it is what it would have been without, by estimates.
        before_ms, after_ms: medians of the whole network, untuned and by the choice.
        state: of the machine while the two were compared, see `ai3.machine`.
        measured, known: how many problems were measured, and how many had been.
        seconds: how long it took.
        stopped: whether it was stopped before all was measured, by its user or by the time given.
        bytes: what the model adds to the process: packed weights, workspace and activations.
        error: relative L2 error of its outputs; None where no budget asked for it.
        cost_ms: how much slower the budgets made the network, by what its nodes were measured to
            take; below 0 where a budget of accuracy permits what is faster.
        gap: by how much of its time a choice within the budgets might be faster, at most.
    """

    plan: Plan | None
    modules: Mapping[str, Conv2dAlgorithms] = field(default_factory=dict)
    in_place: Plan | None = None
    kept: bool = True
    before_ms: float = 0.0
    after_ms: float = 0.0
    state: str = ""
    measured: int = 0
    known: int = 0
    seconds: float = 0.0
    stopped: bool = False
    bytes: int | None = None
    error: float | None = None
    cost_ms: float | None = None
    gap: float = 0.0
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Conv2dAlgorithms:
        return self.modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        counted = f"{self.measured} problems measured, {self.known} known"
        lines = [f"tuned in {self.seconds:.1f} s: {counted}"]
        if self.stopped:
            lines[0] += ", stopped before all were"
        if self.after_ms:
            lines.append(
                f"{self.before_ms:.3g} ms before, {self.after_ms:.3g} ms after "
                f"({self.before_ms / self.after_ms:.2f}x)"
                + (f", processors {self.state}" if self.state else "")
            )
        if not self.kept:
            lines.append("the choice by estimates is kept, as what was measured is not faster")
        if self.error is not None:
            lines.append(f"error of the outputs {self.error:.2g}")
        if self.bytes is not None:
            lines.append(f"{self.bytes / 1e6:.1f} MB added to the process")
        if self.cost_ms:
            what = "cost" if self.cost_ms > 0 else "gain"
            lines.append(f"the budgets {what} {abs(self.cost_ms):.3g} ms")
        lines += self.notes
        lines += self._choices()
        return "\n".join(lines)

    __repr__ = __str__

    def _choices(self) -> Iterator[str]:
        counts: dict[tuple[str, str], int] = {}
        if self.plan is not None:
            for node in self.plan.nodes:
                if node.op in ("conv2d", "linear", "conv_transpose2d"):
                    key = (node.op, node.algorithm)
                    counts[key] = counts.get(key, 0) + 1
        else:
            for chosen in self.modules.values():
                key = ("conv2d", chosen.forward)
                counts[key] = counts.get(key, 0) + 1
        for (op, algorithm), count in sorted(counts.items()):
            yield f"{count:5} {op} by {algorithm}"
