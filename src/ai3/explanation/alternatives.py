"""What else could do a node of a planned network, and in which type, by the estimates by which its
layouts were chosen."""

from dataclasses import replace
from math import inf

from ai3 import _core
from ai3.explanation.exact import FORMS
from ai3.explanation.explanation import ESTIMATED, Alternative
from ai3.graph.choose_layouts import Option, cost_between, form_of, options_of
from ai3.graph.compile import Compiled
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import problem_of
from ai3.graph.weights import WeightStore
from ai3.ops import SUPPORTED_ALGORITHMS

NARROW = " bf16"
"""With which names of algorithms end that round to bfloat16."""


class Estimates:
    """Of the nodes of one planned graph, each read and written in the forms that the plan has."""

    def __init__(self, compiled: Compiled, asked: Graph) -> None:
        self._compiled = compiled
        self._forms = {name: form_of(spec) for name, spec in compiled.graph.specs.items()}
        self._dense = _dense(compiled.graph)
        self._nodes = {node.name: node for node in self._dense.nodes}
        self._weights = WeightStore(self._dense)
        self._narrow = asked.precision == "bfloat16"

    def alternatives(self, node: Node, ms: float) -> tuple[Alternative, ...]:
        """The other algorithms of a node that takes `ms`, those that would take least first."""
        dense = self._nodes[node.name]
        used = self._compiled.algorithms[node.name]
        problem = problem_of(dense, self._dense.specs, self._weights)
        found = []
        now = self._as_planned(node)
        for name in SUPPORTED_ALGORITHMS[node.op]:
            if name == used or problem.resolve(name) != name:
                continue
            if refusal := problem.refusal(name):
                found.append(Alternative(name, refusal=refusal))
                continue
            rounds = name.endswith(NARROW) and not used.endswith(NARROW) and not self._narrow
            cost = self._least(dense.having(algorithm=name))
            known = 0 < cost < inf and 0 < now < inf and ms > 0
            would = ms * cost / now if known else None
            source = ESTIMATED if known else ""
            gain = ms - would if would is not None else None
            found.append(Alternative(name, would, source, gain, rounds=rounds))
        return tuple(sorted(found, key=lambda a: (bool(a.refusal), inf if a.ms is None else a.ms)))

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

    def _least(self, node: Node) -> float:
        """Of the node in any layout, with the conversions that it needs where it is."""
        return min(
            (self._total(o) for o in options_of(node, self._dense, self._weights)), default=inf
        )

    def _total(self, option: Option) -> float:
        node = option.node
        total = option.cost or inf
        for name, form in zip(node.inputs, option.inputs, strict=True):
            total += cost_between(self._dense.specs[name], self._forms[name], form)
        return total + cost_between(option.output, option.written, self._forms[node.name])


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
