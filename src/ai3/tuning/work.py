"""What may compute one problem, and so is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from ai3 import _core
from ai3.graph.graph import Weight

STANDING = ("default", "guess", "default bf16")
"""Names that stand for others."""

HOPELESS = 4.0
"""Not measured: what is estimated to take this many times as long as the least estimate."""


@dataclass(frozen=True)
class Contender:
    """An algorithm on a problem in certain layouts; `cycles` is its estimate, infinite where there
    is none."""

    op: str
    inputs: tuple[_core.Spec, ...]
    weights: tuple[Weight, ...]
    attributes: dict[str, Any]
    threads: int
    algorithm: str
    key: str
    cycles: float

    def problem(self) -> tuple[_core.Problem, _core.Weights]:
        """A problem with weights of its own: what is packed of them goes with it."""
        weights = _core.Weights.of(self.weights, False)
        specs = list(self.inputs)
        return _core.problem(self.op, specs, weights, self.attributes, self.threads), weights


def contenders(
    problem: _core.Problem,
    weights: Sequence[Weight],
    attributes: dict[str, Any],
    named: bool,
    only: str | None = None,
) -> list[Contender]:
    """All that may compute a problem in the layouts that it has, or one algorithm `only`; `named`
    permits algorithms that round to bfloat16."""
    names = [only] if only else [n for n in _names(problem.op, named) if not problem.refusal(n)]
    costs = {name: _proxy(problem, name) for name in names}
    limit = HOPELESS * min(costs.values(), default=inf)
    # What is small and exact is to be known where there are budgets.
    measured = [n for n in names if costs[n] <= limit or n == "direct" or limit == inf]
    return [
        Contender(
            problem.op,
            tuple(problem.inputs),
            tuple(weights),
            attributes,
            problem.threads,
            name,
            problem.key,
            estimated(problem, name),
        )
        for name in measured
    ]


def estimated(problem: _core.Problem, algorithm: str) -> float:
    """Cycles, whatever was measured."""
    before = _core.estimates_only(True)
    try:
        return problem.cost(algorithm)
    finally:
        _core.estimates_only(before)


def _names(op: str, named: bool) -> list[str]:
    """Of algorithms, those that round to bfloat16 only if they may be named."""
    return [
        name
        for name in _core.algorithms()[op]
        if name not in STANDING and (named or not name.endswith(" bf16"))
    ]


def _proxy(problem: _core.Problem, name: str) -> float:
    """The estimate of an algorithm, of one that has none that of the kind it is of: "winograd" of
    "winograd f2"."""
    cycles = estimated(problem, name)
    kind = name.partition(" ")[0]
    known = kind != name and kind in _core.algorithms()[problem.op]
    return estimated(problem, kind) if known and not isfinite(cycles) else cycles
