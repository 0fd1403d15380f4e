"""What else could do a layer, and in which type: by what was measured on this machine or, where
that is not known, by the estimates by which layouts are chosen."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from ai3 import _core, tuning
from ai3.explanation.exact import FORMS
from ai3.explanation.explanation import ESTIMATED, MEASURED, Alternative
from ai3.graph.choose_layouts import Option, cost_between, form_of, options_of
from ai3.graph.compile import Compiled
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import problem_of
from ai3.graph.weights import WeightStore
from ai3.ops import ON_CPU
from ai3.tuning.database import Row, preferred

NARROW = " bf16"
"""With which names of algorithms end that round to bfloat16."""


@dataclass(frozen=True)
class Way:
    """To do a layer in some layouts: the problem, and the cycles of the conversions around it."""

    problem: _core.Problem
    conversions: float = 0.0


@dataclass(frozen=True)
class Ran:
    """How a layer ran: what it had to do, the algorithm, and the time."""

    problem: _core.Problem
    algorithm: str
    ms: float


class Measured:
    """What was measured of problems on this machine."""

    def __init__(self) -> None:
        self._times = tuning.opened()

    def of(self, problem: _core.Problem) -> dict[str, Row]:
        """By algorithms."""
        if self._times is None:
            return {}
        return {row.algorithm: row for row in preferred(self._times.rows(problem.key))}


def stands_for(asked: str, was_measured: bool) -> str:
    """Why `asked`, which is no algorithm's exact name, came to one."""
    found = "was measured to take least" if was_measured else "is estimated to take least"
    return f"which {asked!r} stands for: it {found}"


def alternatives(
    ran: Ran,
    asked: _core.Problem,
    ways: Callable[[str], Iterable[Way]],
    measured: Measured,
    narrow: bool,
) -> tuple[Alternative, ...]:
    """The algorithms of a layer but the one that it ran, those that would take least first, those
    that refuse what is `asked` last. `ways` are those of an algorithm, `narrow` says that rounding
    to bfloat16 is permitted."""
    now = ran.problem.cost(ran.algorithm)
    cycle = ran.ms / now if 0 < now < inf and ran.ms > 0 else None  # in ms
    known = measured.of(ran.problem).get(ran.algorithm)

    def by(name: str) -> Iterator[Alternative]:
        for way in ways(name):
            if way.conversions and cycle is None:
                continue
            conversions = way.conversions * (cycle or 0.0)
            row, cost = measured.of(way.problem).get(name), way.problem.cost(name)
            if row is not None:
                ms = 1e3 * row.seconds + conversions
                before = ran.ms if known is None else 1e3 * known.seconds
                yield Alternative(name, ms, MEASURED, before - ms, error=row.error)
            elif 0 < cost < inf and cycle is not None:
                ms = cost * cycle + conversions
                yield Alternative(name, ms, ESTIMATED, ran.ms - ms)

    found = []
    for name in ON_CPU[asked.op]:
        if name == ran.algorithm or asked.resolve(name) != name:
            continue
        if refusal := asked.refusal(name):
            found.append(Alternative(name, refusal=refusal))
            continue
        rounds = name.endswith(NARROW) and not ran.algorithm.endswith(NARROW) and not narrow
        best = min(by(name), key=_least, default=Alternative(name))
        found.append(replace(best, rounds=rounds))
    return tuple(sorted(found, key=lambda a: (bool(a.refusal), inf if a.ms is None else a.ms)))


def _least(found: Alternative) -> tuple[bool, float]:
    """What was measured goes before what is estimated."""
    return found.source != MEASURED, found.ms or 0.0


class Estimates:
    """Of the nodes of one planned graph, each read and written in the forms that the plan has."""

    def __init__(self, compiled: Compiled, asked: Graph, measured: Measured) -> None:
        self._compiled, self._measured = compiled, measured
        self._forms = {name: form_of(spec) for name, spec in compiled.graph.specs.items()}
        self._dense = _dense(compiled.graph)
        self._nodes = {node.name: node for node in self._dense.nodes}
        self._weights = WeightStore(self._dense)
        self._narrow = asked.precision == "bfloat16"

    def alternatives(self, node: Node, ms: float) -> tuple[Alternative, ...]:
        """See `alternatives`, of a node that takes `ms`."""
        dense = self._nodes[node.name]
        ran = Ran(self._compiled.problems[node.name], self._compiled.algorithms[node.name], ms)
        asked = problem_of(dense, self._dense.specs, self._weights)
        ways = partial(self._ways, dense)
        return alternatives(ran, asked, ways, self._measured, self._narrow)

    def _ways(self, node: Node, algorithm: str) -> Iterator[Way]:
        """The node in any layout, with the conversions that it needs where it is."""
        for option in options_of(node.having(algorithm=algorithm), self._dense, self._weights):
            if option.problem is not None:
                yield Way(option.problem, self._conversions(option))

    def why_dtype(self, node: Node) -> str:
        """How a node's output came to its type."""
        dtype = self._forms[node.name][0]
        if node.op == "reorder":
            return f"{dtype}: as what reads it takes it"
        if dtype not in ("float32", "bfloat16"):
            return f"{dtype}: as the network's values are"
        if not self._narrow:
            if self._compiled.algorithms[node.name].endswith(NARROW):
                return "float32, of products of bfloat16, as the algorithm's name says"
            return "float32: nothing permits less (precision='bfloat16' would)"
        dense = self._nodes[node.name]
        other = "float32" if dtype == "bfloat16" else "bfloat16"
        options = [
            option
            for option in options_of(dense, self._dense, self._weights, narrow=True)
            if option.written[0] == other
        ]
        if not options:
            if dtype == "float32" and not any(
                self._dense.specs[n].dtype == dtype for n in dense.inputs
            ):
                return "float32: it is made of other types"
            return f"{dtype}: no algorithm of {node.op} computes in {other} here"
        now = self._as_planned(node)
        would = min(self._total(option) for option in options)
        if not (0 < now < inf and 0 < would < inf):
            return f"{dtype}: nothing is estimated to be saved by {other}"
        if would >= now:
            return (
                f"{dtype}: with conversions it is estimated to take {would / now:.2f} times as "
                f"long in {other}"
            )
        return (
            f"{dtype}: alone it is estimated to take {would / now:.2f} times as long in {other}, "
            "but not with its neighbours"
        )

    def _as_planned(self, node: Node) -> float:
        return self._compiled.problems[node.name].cost(self._compiled.algorithms[node.name])

    def _total(self, option: Option) -> float:
        return (option.cost or inf) + self._conversions(option)

    def _conversions(self, option: Option) -> float:
        """In cycles."""
        node = option.node
        total = cost_between(option.output, option.written, self._forms[node.name])
        for name, form in zip(node.inputs, option.inputs, strict=True):
            total += cost_between(self._dense.specs[name], self._forms[name], form)
        return total


def _dense(graph: Graph) -> Graph:
    """The graph before its types and layouts were chosen."""
    specs = {
        name: _core.Spec("float32" if s.dtype == "bfloat16" else s.dtype, s.shape)
        for name, s in graph.specs.items()
    }
    nodes = tuple(
        node.having(attributes={k: v for k, v in node.attributes.items() if k not in FORMS})
        if node.op not in (CONSTANT, "reorder")
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, specs=specs)
