"""A model under several plans: its time, its error, its memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ai3 import _core, arrays
from ai3.explanation.exact import elements
from ai3.graph.compile import Compiled, Pins, compile_graph
from ai3.graph.graph import KINDS, Graph
from ai3.graph.weights import WeightStore
from ai3.model import Model
from ai3.plan import Plan, PlannedPart, planned
from ai3.tuning import database

Parts: TypeAlias = Sequence[tuple[Graph, tuple[_core.Spec, ...]]]
"""The graphs of a model, with the specs of their inputs."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model adds to the process for inputs of some shapes."""

    packed: int
    workspace: int
    activations: int

    @property
    def total(self) -> int:
        return self.packed + self.workspace + self.activations


def weight_bytes(graph: Graph) -> int:
    """Of the network's parameters and buffers, each once."""
    seen = {id(w): w.nbytes for node in graph.nodes for w in node.weights if w is not None}
    return sum(seen.values())


def parts_of(model: Model, inputs: Sequence[Any]) -> Parts:
    """The graphs of a model, as a run on these inputs meets them."""
    model.prepare(*inputs)
    model._latest = _core.specs_of(model._readable(inputs))
    graphs = model._graphs
    return [(graph, model._specs_of_part(graph)) for graph in graphs]


def plan_of(
    model: Model, parts: Parts, by_estimates: bool, pins: Sequence[Pins | None] | None = None
) -> Plan:
    """The graphs as they would be planned from the start now, or in the layouts of `pins`."""
    before = _core.estimates_only(by_estimates)
    try:
        compiled = [
            compile_graph(graph, specs, model._weights, model._unsupported, pins=own)
            for (graph, specs), own in zip(parts, pins or [None] * len(parts), strict=True)
        ]
    finally:
        _core.estimates_only(before)
    return planned(compiled, model.graph.precision)


def by(model: Model, plan: Plan) -> Model:
    """Another model of the same weights, which runs a plan."""
    other = unpinned(model)
    other._pins = tuple(part.pins() for part in plan.parts)
    return other


def unpinned(model: Model) -> Model:
    """Another model of the same weights, by the algorithms that its user chose."""
    other = Model.__new__(Model)
    other._weights, other._unsupported, other._pins = model._weights, model._unsupported, ()
    other._own = model._own
    other._replan(model._own)
    return other


def pinned(model: Model, graph: Graph, part: PlannedPart) -> Compiled:
    return compile_graph(graph, part.inputs, model._weights, model._unsupported, pins=part.pins())


def expected(model: Model, plan: Plan) -> float:
    """The seconds that all of a plan takes by what was measured or, where it was not, estimated."""
    times = database.opened() or database.Times(None)
    ms = 0.0
    for graph, part in zip(model._graphs, plan.parts, strict=True):
        made = pinned(model, graph, part)
        for name in made.steps:
            ms += times.expected(made.problems[name], made.algorithms[name])[0] or 0.0
    return 1e-3 * ms


def largest(model: Model, plan: Plan) -> tuple[str, int]:
    """The node that needs the most bytes by a plan, weights and workspace, and how many."""
    graphs = model._graphs
    store = WeightStore(model.graph)
    needs: dict[str, int] = {}
    for graph, part in zip(graphs, plan.parts, strict=True):
        made = compile_graph(graph, part.inputs, store, model._unsupported, pins=part.pins())
        for node in made.graph.nodes:
            problem = made.problems.get(node.name)
            if problem is not None:
                workspace = problem.workspace_bytes(made.algorithms[node.name])
                needs[node.label] = store.of(node.weights).packed_bytes + workspace
    name = max(needs, key=lambda each: needs[each], default="")
    return name, needs.get(name, 0)


def footprint(model: Model, plan: Plan) -> Footprint:
    """What a model by this plan holds, with weights packed for it alone."""
    graphs = model._graphs
    store = WeightStore(model.graph)
    executors = [
        compile_graph(graph, part.inputs, store, model._unsupported, pins=part.pins()).executor
        for graph, part in zip(graphs, plan.parts, strict=True)
    ]
    packed = store.packed_bytes
    workspace = max((executor.workspace_bytes for executor in executors), default=0)
    activations = max((executor.arena_bytes for executor in executors), default=0)
    return Footprint(packed, workspace, activations)


def exact(model: Model, inputs: Sequence[Any]) -> list[Any]:
    """The outputs with everything in float64."""

    def wide(array: Any) -> Any:
        return array.astype(np.float64) if array is not None and _is_float(array) else array

    def plain(value: Any) -> Any:
        return "float64" if value in ("float32", "bfloat16") else value

    nodes = [
        node.having(
            weights=tuple(map(wide, node.weights)),
            attributes={key: plain(value) for key, value in node.attributes.items()},
            algorithm="default",
        )
        for node in model.graph.nodes
    ]
    graph = replace(model.graph, nodes=tuple(nodes), precision="float32", narrow=False)
    given = [elements(array) for array in inputs]
    return outputs_of(Model.from_graph(graph, "default"), given)


def outputs_of(model: Model, inputs: Sequence[Any]) -> list[Any]:
    """The floating-point outputs of a model, in float64."""
    found: list[Any] = []

    def take(array: Any) -> Any:
        value = elements(array)
        if value.dtype == np.float64:
            found.append(value)
        return array

    for result in model._run(model._readable(inputs), own=False):
        arrays.each(result, take)
    return found


def distance(outputs: Sequence[Any], exact: Sequence[Any]) -> float:
    """Relative L2 error of all outputs together; infinite where some are no numbers."""
    pairs = list(zip(outputs, exact, strict=True))
    norm = sum(float(np.square(b).sum()) for _, b in pairs)
    off = sum(float(np.square(a - b).sum()) for a, b in pairs)
    if not np.isfinite(off):
        return float("inf")
    return float((off / norm) ** 0.5) if norm > 0 else float(off > 0)


def caller(model: Model, inputs: Sequence[Any]) -> Callable[[], object]:
    return lambda: model(*inputs)


def _is_float(array: Any) -> bool:
    return KINDS.get(array.dtype.name) == "real"
