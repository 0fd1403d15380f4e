"""Choose the layout in which each image is written and read."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import inf
from typing import TypeAlias

from ai3 import _core
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import REAL, problem_of
from ai3.graph.weights import WeightStore

LAYOUTS = ("dense", "blocked", "channels_last")

WRITES_ANY = ("conv2d", "permute")
"""Operations with an attribute `output_layout`; others write the layout that they read."""

MOST_SWEEPS = 8

STEP_CYCLES = 2000
"""What a step more costs, whatever it does."""


@dataclass(frozen=True)
class Option:
    """A node that reads its inputs and writes its output in certain layouts, and what it takes by
    estimate, in cycles."""

    node: Node
    inputs: tuple[str, ...]
    output: _core.Spec
    cost: float


Layouts: TypeAlias = Mapping[str, tuple[tuple[str, ...], str | None]]
"""By the names of nodes the layouts in which they read their inputs and, where they have that
choice, write their output."""


def choose_layouts(
    graph: Graph, weights: WeightStore, like: Iterable[Layouts] = ()
) -> tuple[Graph, Layouts]:
    """The graph whose convolutions and other operations on images use the layouts that take least
    by the estimates of their algorithms, with a `reorder` wherever a value is read in another
    layout than it is written in. The inputs and outputs of the graph stay dense.

    Dynamic programming along the nodes, in which all that read a value share its cost: exact where
    each value is read once. After that nodes change one by one while that saves something.

    `like` are layouts that were chosen for this graph of other sizes: the first that are for the
    same nodes are taken over.
    """
    for layouts in like:
        taken = _taken_over(graph, weights, layouts)
        if taken is not None:
            return _with_reorders(graph, taken), layouts
    options = {node.name: list(_options(node, graph, weights)) for node in graph.nodes}
    if all(len(choices) == 1 for choices in options.values()):
        return graph, {name: (only.inputs, None) for name, (only,) in options.items()}
    chosen = _improved(graph, options, _cheapest(graph, options))
    layouts = {
        name: (option.inputs, option.node.attributes.get("output_layout"))
        for name, option in chosen.items()
    }
    return _with_reorders(graph, chosen), layouts


def _taken_over(graph: Graph, weights: WeightStore, layouts: Layouts) -> dict[str, Option] | None:
    """The nodes in these layouts; None where they are for others, or the core cannot do it so."""
    if layouts.keys() != {node.name for node in graph.nodes}:
        return None
    found = {}
    for node in graph.nodes:
        inputs, written = layouts[node.name]
        if len(inputs) != len(node.inputs):
            return None
        output = graph.specs[node.name]
        if written is not None or any(layout != "dense" for layout in inputs):
            attributes = dict(node.attributes)
            if written is not None:
                attributes["output_layout"] = written
            specs = [
                _in_layout(graph.specs[name], layout)
                for name, layout in zip(node.inputs, inputs, strict=True)
            ]
            try:
                problem = _core.problem(node.op, specs, weights.of(node.weights), attributes)
            except ValueError:
                return None
            if problem.refusal(node.algorithm):
                return None
            node, output = node.having(attributes=attributes), problem.output
        found[node.name] = Option(node, inputs, output, 0.0)
    return found


def _options(node: Node, graph: Graph, weights: WeightStore) -> Iterator[Option]:
    """What the core can do; first, everything dense."""
    specs = [graph.specs[name] for name in node.inputs]
    dense = Option(node, ("dense",) * len(specs), graph.specs[node.name], 0.0)
    images = [len(spec.shape) == 4 and spec.dtype in REAL for spec in specs]
    if node.op == CONSTANT or not any(images) or graph.specs[node.name].dtype not in REAL:
        yield dense
        return
    problem = problem_of(node, graph.specs, weights)
    yield replace(dense, cost=_estimate(problem, node.algorithm))
    if not problem.fusible(node.algorithm):
        return
    outputs: tuple[str | None, ...] = LAYOUTS if node.op in WRITES_ANY else (None,)
    for read, written in product(LAYOUTS, outputs):
        if read == "dense" and written in ("dense", None):
            continue
        attributes = dict(node.attributes)
        if written is not None:
            attributes["output_layout"] = written
        layouts = [read if image else "dense" for image in images]
        if node.op == "conv2d" and written is not None:
            layouts[1:] = [written] * (len(specs) - 1)
        given = [_in_layout(*pair) for pair in zip(specs, layouts, strict=True)]
        try:
            problem = _core.problem(node.op, given, weights.of(node.weights), attributes)
        except ValueError:
            continue
        if not problem.refusal(node.algorithm):
            cost = _estimate(problem, node.algorithm)
            yield Option(node.having(attributes=attributes), tuple(layouts), problem.output, cost)


def _estimate(problem: _core.Problem, algorithm: str) -> float:
    """Cycles; 0 where the core has no estimate."""
    return dict(problem.ranking()).get(problem.resolve(algorithm), 0.0)


def _in_layout(spec: _core.Spec, layout: str) -> _core.Spec:
    return _core.Spec(spec.dtype, spec.shape, layout)


def same_memory(a: _core.Spec, b: _core.Spec) -> bool:
    """Whether an image has the same memory in the layouts of both."""
    if a == b:
        return True
    plane = a.shape[-1] * a.shape[-2] if len(a.shape) > 2 else 0
    return a.bytes == b.bytes and plane == 1


@cache
def _reorder_cost(
    dtype: str, shape: tuple[int, ...], before: str, after: str, threads: int
) -> float:
    if before == after:
        return 0.0
    spec = _core.Spec(dtype, shape, before)
    problem = _core.problem("reorder", [spec], None, {"layout": after}, threads)
    if same_memory(spec, problem.output):
        return 0.0
    return STEP_CYCLES + problem.ranking()[0][1]


def _cost_between(spec: _core.Spec, before: str, after: str) -> float:
    return _reorder_cost(spec.dtype, spec.shape, before, after, _core.max_threads())


def _cheapest(graph: Graph, options: Mapping[str, Sequence[Option]]) -> dict[str, Option]:
    uses = graph.uses()
    # The least cost of each value in each layout that it can be written in.
    written: dict[str, dict[str, float]] = {name: {"dense": 0.0} for name in graph.inputs}
    totals: dict[str, list[float]] = {}

    def read(name: str, layout: str) -> float:
        spec = graph.specs[name]
        return min(
            cost / uses[name] + _cost_between(spec, before, layout)
            for before, cost in written[name].items()
        )

    for node in graph.nodes:
        written[node.name] = {}
        totals[node.name] = []
        for option in options[node.name]:
            total = option.cost + sum(map(read, node.inputs, option.inputs))
            totals[node.name].append(total)
            layout = option.output.layout
            written[node.name][layout] = min(total, written[node.name].get(layout, inf))

    chosen: dict[str, Option] = {}
    wanted: dict[str, set[str]] = {name: {"dense"} for name in graph.outputs}
    for node in reversed(graph.nodes):
        best = inf
        for option, total in zip(options[node.name], totals[node.name], strict=True):
            for layout in wanted.get(node.name, ()):
                total += _cost_between(option.output, option.output.layout, layout)
            if total < best:
                best, chosen[node.name] = total, option
        for name, layout in zip(node.inputs, chosen[node.name].inputs, strict=True):
            wanted.setdefault(name, set()).add(layout)
    return chosen


def _improved(
    graph: Graph, options: Mapping[str, Sequence[Option]], chosen: dict[str, Option]
) -> dict[str, Option]:
    """The choice after each node has taken the best option beside those of the others, from the
    last node to the first and over again until all keep theirs."""
    layout_of = dict.fromkeys(graph.inputs, "dense")
    layout_of.update((name, option.output.layout) for name, option in chosen.items())
    wanted = {name: Counter[str]() for name in layout_of}
    for name in graph.outputs:
        wanted[name]["dense"] += 1
    for option in chosen.values():
        for name, layout in zip(option.node.inputs, option.inputs, strict=True):
            wanted[name][layout] += 1

    def marginal(option: Option) -> float:
        total = option.cost
        for name, layout in zip(option.node.inputs, option.inputs, strict=True):
            if not wanted[name][layout]:  # else that reader pays for it
                total += _cost_between(graph.specs[name], layout_of[name], layout)
        for layout, readers in wanted[option.node.name].items():
            if readers:
                total += _cost_between(option.output, option.output.layout, layout)
        return total

    for _ in range(MOST_SWEEPS):
        before = dict(chosen)
        for node in reversed(graph.nodes):
            for name, layout in zip(node.inputs, chosen[node.name].inputs, strict=True):
                wanted[name][layout] -= 1
            best = min(options[node.name], key=marginal)
            if marginal(best) < marginal(chosen[node.name]):
                chosen[node.name] = best
            layout_of[node.name] = chosen[node.name].output.layout
            for name, layout in zip(node.inputs, chosen[node.name].inputs, strict=True):
                wanted[name][layout] += 1
        if chosen == before:
            break
    return chosen


def _with_reorders(graph: Graph, chosen: Mapping[str, Option]) -> Graph:
    specs = dict(graph.specs)
    specs.update((name, option.output) for name, option in chosen.items())
    nodes: list[Node] = []
    reordered: dict[tuple[str, str], str] = {}

    def read(name: str, layout: str) -> str:
        if specs[name].layout == layout:
            return name
        if (name, layout) not in reordered:
            new = f"{name}_{layout}"
            while new in specs:
                new += "_"
            specs[new] = _in_layout(specs[name], layout)
            nodes.append(Node(new, "reorder", (name,), {"layout": layout}))
            reordered[name, layout] = new
        return reordered[name, layout]

    for node in graph.nodes:
        option = chosen[node.name]
        inputs = tuple(map(read, node.inputs, option.inputs))
        same = inputs == option.node.inputs
        nodes.append(option.node if same else option.node.having(inputs=inputs))
    outputs = tuple(read(name, "dense") for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs, specs=specs)
