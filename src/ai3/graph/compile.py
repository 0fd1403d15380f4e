"""From a graph and the shapes of its inputs to an executor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai3 import _core, choices
from ai3.errors import PlanError, UnsupportedAlgorithmError
from ai3.graph.choose_layouts import Layouts, choose_layouts, with_layouts
from ai3.graph.eliminate import eliminate
from ai3.graph.fold_constants import fold_constants
from ai3.graph.fuse_epilogues import fuse_epilogues
from ai3.graph.fuse_expansions import fuse_expansions
from ai3.graph.fuse_pointwise import fuse_pointwise
from ai3.graph.fuse_shuffles import fuse_shuffles
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.resize import Resizable, Stages, scheduled
from ai3.graph.specialize import problem_of, specialize
from ai3.graph.weights import WeightStore
from ai3.platforms import why_not_on_cpu

PASSES: tuple[Callable[[Graph, WeightStore], Graph], ...] = (
    fold_constants,
    fuse_shuffles,
    eliminate,
    fuse_epilogues,
    fuse_pointwise,
)
"""What is done, in this order, to a graph whose shapes are known, before its layouts are chosen;
then expansions are fused."""


def infer(graph: Graph, weights: WeightStore) -> dict[str, _core.Problem]:
    """The problem of each node of a specialized graph that is no constant."""
    return {
        node.name: problem_of(node, graph.specs, weights)
        for node in graph.nodes
        if node.op != CONSTANT
    }


def choose(graph: Graph, problems: Mapping[str, _core.Problem], unsupported: str) -> dict[str, str]:
    """The algorithm of each node that has a problem: `unsupported` where its own refuses it.

    Raises UnsupportedAlgorithmError, with every refusal, where that is "raise" or refuses too.
    """
    return {name: pair[0] for name, pair in _chosen(graph, problems, unsupported).items()}


def _chosen(
    graph: Graph, problems: Mapping[str, _core.Problem], unsupported: str
) -> dict[str, tuple[str, str]]:
    """The same, each with the algorithm that it stands for."""
    chosen, refusals = {}, []
    for node in graph.nodes:
        problem = problems.get(node.name)
        if problem is None:
            continue
        algorithm = resolved = node.algorithm
        reason = why_not_on_cpu(node.op, algorithm)
        if not reason:
            resolved = problem.resolve(algorithm)
            reason = problem.refusal(resolved)
        if reason and unsupported != "raise":
            algorithm = resolved = unsupported
            reason = why_not_on_cpu(node.op, algorithm)
            if not reason:
                resolved = problem.resolve(algorithm)
                reason = problem.refusal(resolved)
        if reason:
            refusals.append((node.label, algorithm, reason))
        chosen[node.name] = algorithm, resolved
    if refusals:
        raise UnsupportedAlgorithmError(refusals)
    return chosen


def conv2d_attempt(
    weight: Sequence[int], dtype: str, attributes: Mapping[str, Any], weights: _core.Weights
) -> _core.Problem:
    """A conv2d problem on an image that any kernel and padding fit: tells what does not depend on
    the image."""
    groups, dilation = attributes["groups"], attributes["dilation"]
    pair = (dilation, dilation) if isinstance(dilation, int) else dilation
    extents = [max(32, 2 * d * k) for d, k in zip(pair, weight[2:], strict=True)]
    spec = _core.Spec(dtype, (1, weight[1] * groups, *extents))
    return _core.problem("conv2d", [spec], weights, dict(attributes))


@dataclass(frozen=True)
class Pins:
    """What was chosen once for inputs of some specs, to be done again exactly so: by the names of
    nodes, as they are before layouts are chosen, the algorithms and layouts, and those that are one
    with the convolution before them."""

    specs: tuple[_core.Spec, ...]
    algorithms: Mapping[str, str]
    layouts: Layouts
    expansions: Mapping[str, str]
    """By their names the convolution before them."""

    @property
    def expanded(self) -> frozenset[str]:
        """The nodes of which two are one."""
        return frozenset([*self.expansions, *self.expansions.values()])


@dataclass(frozen=True)
class Compiled:
    """An executor, the graph that it runs, for each of its steps the name of the node, for each
    node its problem and the algorithm that does it, what layouts were chosen, the graph before
    that, which nodes became one with the convolution before them, and what makes plans for other
    sizes, if it may."""

    executor: _core.Executor
    graph: Graph
    steps: tuple[str, ...]
    problems: Mapping[str, _core.Problem]
    algorithms: Mapping[str, str]
    layouts: Layouts
    before: Graph
    expansions: Mapping[str, str]
    resizable: Resizable | None

    @property
    def bytes(self) -> int:
        """About what the executor keeps, beside the network's weights."""
        constants = (n.weights[0] for n in self.graph.nodes if n.op == CONSTANT)
        return 1024 * len(self.steps) + sum(w.nbytes for w in constants if w is not None)


def compile_graph(
    graph: Graph,
    inputs: Sequence[_core.Spec],
    weights: WeightStore,
    unsupported: str = "raise",
    like: Iterable[Layouts] = (),
    pins: Pins | None = None,
) -> Compiled:
    """Plan every node and place every value, in layouts that were chosen for another size where
    those fit, or exactly as `pins` say. Raises what `specialize` and `choose` do, and PlanError
    where the pins are of another network."""
    specialized = specialize(graph, inputs, weights)
    before = improved(specialized, weights)
    if pins is None:
        compiled, layouts = choose_layouts(before, weights, like, graph.precision == "bfloat16")
        compiled, pairs = fuse_expansions(compiled, weights)
    else:
        compiled, layouts = with_layouts(_pinned(before, pins), weights, pins.layouts)
        compiled, pairs = fuse_expansions(compiled, weights, pins.expansions)
    problems = infer(compiled, weights)
    chosen = _chosen(compiled, problems, unsupported)
    if choices.told():
        for node in compiled.nodes:
            if node.name in chosen:
                choices.tell(node.label, problems[node.name], chosen[node.name][0])
    algorithms = {name: pair[0] for name, pair in chosen.items()}
    stages = Stages(graph, specialized, pairs, compiled, problems, algorithms)
    schedule, names, resizable = scheduled(stages, weights)
    executor, steps = schedule.executor()
    return Compiled(
        executor,
        compiled,
        tuple(names[i] for i in steps),
        problems,
        {name: pair[1] for name, pair in chosen.items()},
        layouts,
        before,
        {pair.node.name: pair.before.name for pair in pairs if pair.fused},
        resizable if pins is None else None,
    )


def improved(graph: Graph, weights: WeightStore) -> Graph:
    """A specialized graph as it is before layouts are chosen."""
    for improve in PASSES:
        graph = improve(graph, weights)
    return graph


def general_names(graph: Graph, pins: Pins, weights: WeightStore) -> dict[str, str]:
    """By the names of nodes of a graph for any sizes the algorithms that pins have for what passes
    made of them. What is one operation with another at one size is left to be so where it pays."""
    before = improved(specialize(graph, pins.specs, weights), weights)
    made: dict[object, list[Node]] = {}
    for node in before.nodes:
        made.setdefault(_identity(node), []).append(node)
    names = {}
    for node in graph.nodes:
        same = made.get(_identity(node))
        if same:
            after = same.pop(0).name
            if after in pins.algorithms and after not in pins.expanded:
                names[node.name] = pins.algorithms[after]
    return names


def _identity(node: Node) -> object:
    """Passes give a node the name of what is computed with it, but keep its weights."""
    arrays = tuple(id(weight) for weight in node.weights if weight is not None)
    return (node.op, arrays or node.name)


def _pinned(graph: Graph, pins: Pins) -> Graph:
    """The graph with the algorithms of the pins. Raises PlanError."""
    known = {node.name for node in graph.nodes}
    for name in pins.layouts:
        if name not in known:
            raise PlanError(f"the network has no node {name!r}, which the plan has")
    for node in graph.nodes:
        if node.name not in pins.layouts:
            raise PlanError(f"the plan has no node {node.name!r}, which the network has")
    return graph.with_algorithms(pins.algorithms)
