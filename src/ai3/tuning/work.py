"""What may compute one problem, and so is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ai3 import _core
from ai3.graph.graph import Weight
from ai3.ops import ONLY_BY_NAME

STANDING = ("default", "guess", "default bf16")
"""Names that stand for others."""

HOPELESS = 4.0
"""Not measured: what is estimated to take this many times as long as the least estimate."""


@dataclass(frozen=True)
class Contender:
    """An algorithm on a problem in certain layouts; `cycles` is its estimate, infinite where there
    is none, and by that "default" may stand for what is `elected`."""

    op: str
    inputs: tuple[_core.Spec, ...]
    weights: tuple[Weight, ...]
    attributes: dict[str, Any]
    threads: int
    algorithm: str
    key: str
    cycles: float
    elected: bool

    def problem(self) -> tuple[_core.Problem, _core.Weights]:
        """A problem with weights of its own: what is packed of them goes with it."""
        weights = _core.Weights.of(self.weights, False)
        specs = list(self.inputs)
        return _core.problem(self.op, specs, weights, self.attributes, self.threads), weights


def contenders(
    problem: _core.Problem, weights: Sequence[Weight], attributes: dict[str, Any], named: bool
) -> list[Contender]:
    """All that may compute a problem in the layouts that it has; `named` permits algorithms that
    round to bfloat16."""
    names = [name for name in _names(problem.op, named) if not problem.refusal(name)]
    before = _core.estimates_only(True)
    try:
        cycles = {name: problem.cost(name) for name in names}
        elected = {name for name, _ in problem.ranking()}
    finally:
        _core.estimates_only(before)
    limit = HOPELESS * min(cycles.values(), default=inf)
    # What is small and exact is to be known where there are budgets.
    measured = [n for n in names if cycles[n] <= limit or n == "direct" or limit == inf]
    return [
        Contender(
            problem.op,
            tuple(problem.inputs),
            tuple(weights),
            attributes,
            problem.threads,
            name,
            problem.key,
            cycles[name],
            name in elected,
        )
        for name in measured
    ]


def _names(op: str, named: bool) -> list[str]:
    """Of algorithms, those that round to bfloat16 only if they may be named."""
    return [
        name
        for name in _core.algorithms()[op]
        if name not in STANDING
        and (op, name) not in ONLY_BY_NAME
        and (named or not name.endswith(" bf16"))
    ]
