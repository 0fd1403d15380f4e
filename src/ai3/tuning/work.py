"""What a network has to be measured: its problems, each with all that may compute it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from ai3 import _core
from ai3.graph.choose_layouts import Form, cost_between, options_of
from ai3.graph.graph import CONSTANT, Graph, Node, Weight
from ai3.graph.weights import WeightStore

STANDING = ("default", "guess", "default bf16")
"""Names that stand for others."""

HOPELESS, FAR = 4.0, 2.0
"""Not measured: what is estimated to take this many times as long as the least estimate in its
layouts, or as that in any layouts with what changes them."""


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

    @property
    def name(self) -> str:
        return f"{self.algorithm} | {self.key}"

    def problem(self) -> tuple[_core.Problem, _core.Weights]:
        """A problem with weights of its own: what is packed of them goes with it."""
        weights = _core.Weights.of(self.weights, False)
        specs = list(self.inputs)
        return _core.problem(self.op, specs, weights, self.attributes, self.threads), weights


@dataclass
class Work:
    """Nodes of the same problem, and what may compute it; `cycles` is what the fastest is estimated
    to take, `moving` what bringing its arrays into other layouts is."""

    op: str
    contenders: list[Contender]
    moving: float
    nodes: list[str] = field(default_factory=list)

    @property
    def cycles(self) -> float:
        return min((c.cycles for c in self.contenders if isfinite(c.cycles)), default=0.0)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(contender.key for contender in self.contenders)


def of_graph(graph: Graph, weights: WeightStore, narrow: bool, named: bool) -> list[Work]:
    """Of a graph as it is before layouts are chosen; nodes for which an algorithm was chosen by its
    name are left out. `narrow` permits values in bfloat16, `named` algorithms in bfloat16."""
    works: dict[Any, Work] = {}
    for node in graph.nodes:
        if node.op == CONSTANT or node.algorithm != "default":
            continue
        if len(_names(node.op, named)) < 2:
            continue
        first = _core.problem(
            node.op,
            [graph.specs[name] for name in node.inputs],
            weights.of(node.weights),
            dict(node.attributes),
        )
        work = works.get(first.key)
        if work is None:
            work = works[first.key] = Work(node.op, [], 0.0)
            _fill(work, node, graph, weights, narrow, named)
        work.nodes.append(node.name)
    return [work for work in works.values() if len(work.contenders) > 1]


def of_problem(
    problem: _core.Problem, weights: Sequence[Weight], attributes: dict[str, Any], named: bool
) -> Work:
    """Of one problem in the layouts that it has."""
    work = Work(problem.op, [], 0.0)
    specs = tuple(problem.inputs)
    work.contenders = list(_contenders(problem, specs, tuple(weights), attributes, named, inf))
    return work


def estimated(problem: _core.Problem, algorithm: str) -> float:
    """Cycles, whatever was measured."""
    before = _core.estimates_only(True)
    try:
        return problem.cost(algorithm)
    finally:
        _core.estimates_only(before)


def _fill(
    work: Work, node: Node, graph: Graph, weights: WeightStore, narrow: bool, named: bool
) -> None:
    options = [o for o in options_of(node, graph, weights, narrow) if o.problem is not None]
    specs = [graph.specs[name] for name in node.inputs]
    work.moving = sum(_moving(spec) for spec in (*specs, graph.specs[node.name]))
    least = {id(o): _least(o.problem, named) for o in options if o.problem is not None}
    best = min(least.values(), default=inf)
    for option in options:
        if option.problem is None or least[id(option)] > 1.5 * (best + work.moving):
            continue
        inputs = tuple(option.problem.inputs)
        attributes = dict(option.node.attributes)
        work.contenders += _contenders(
            option.problem, inputs, node.weights, attributes, named, best + work.moving
        )


def _contenders(
    problem: _core.Problem,
    inputs: tuple[_core.Spec, ...],
    weights: tuple[Weight, ...],
    attributes: dict[str, Any],
    named: bool,
    best: float,
) -> Iterator[Contender]:
    names = [n for n in _names(problem.op, named) if not problem.refusal(n)]
    costs = {name: _proxy(problem, name) for name in names}
    limit = min(HOPELESS * min(costs.values(), default=inf), FAR * best)
    for name in names:
        # What is small and exact is to be known where there are budgets.
        if costs[name] <= limit or name == "direct" or limit == inf:
            yield Contender(
                problem.op,
                inputs,
                weights,
                attributes,
                problem.threads,
                name,
                problem.key,
                estimated(problem, name),
            )


def _names(op: str, named: bool) -> list[str]:
    """Of algorithms, those that round to bfloat16 only if they may be named."""
    return [
        name
        for name in _core.algorithms()[op]
        if name not in STANDING and (named or not name.endswith(" bf16"))
    ]


def _least(problem: _core.Problem, named: bool) -> float:
    costs = [_proxy(problem, n) for n in _names(problem.op, named) if not problem.refusal(n)]
    return min(costs, default=inf)


def _proxy(problem: _core.Problem, name: str) -> float:
    """The estimate of an algorithm, of one that has none that of the kind it is of: "winograd" of
    "winograd f2"."""
    cycles = estimated(problem, name)
    kind = name.partition(" ")[0]
    known = kind != name and kind in _core.algorithms()[problem.op]
    return estimated(problem, kind) if known and not isfinite(cycles) else cycles


def _moving(spec: _core.Spec) -> float:
    if len(spec.shape) != 4:
        return 0.0
    forms: list[Form] = [(spec.dtype, "dense"), (spec.dtype, "blocked")]
    return cost_between(spec, *forms)
