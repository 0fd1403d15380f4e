"""From a graph and the shapes of its inputs to an executor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai3 import _core, choices
from ai3.errors import UnsupportedAlgorithmError
from ai3.graph.choose_layouts import Layouts, choose_layouts
from ai3.graph.eliminate import eliminate
from ai3.graph.fold_constants import fold_constants
from ai3.graph.fuse_epilogues import fuse_epilogues
from ai3.graph.fuse_expansions import fuse_expansions
from ai3.graph.fuse_pointwise import fuse_pointwise
from ai3.graph.fuse_shuffles import fuse_shuffles
from ai3.graph.graph import CONSTANT, Graph
from ai3.graph.resize import Resizable, Stages, scheduled
from ai3.graph.specialize import problem_of, specialize
from ai3.graph.weights import WeightStore

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
        algorithm, resolved = node.algorithm, problem.resolve(node.algorithm)
        reason = problem.refusal(resolved)
        if reason and unsupported != "raise":
            algorithm, resolved = unsupported, problem.resolve(unsupported)
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
class Compiled:
    """An executor, the graph that it runs, for each of its steps the name of the node, for each
    node its problem and the algorithm that does it, what layouts were chosen, and what makes plans
    for other sizes, if it may."""

    executor: _core.Executor
    graph: Graph
    steps: tuple[str, ...]
    problems: Mapping[str, _core.Problem]
    algorithms: Mapping[str, str]
    layouts: Layouts
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
) -> Compiled:
    """Plan every node and place every value, in layouts that were chosen for another size where
    those fit. Raises what `specialize` and `choose` do."""
    specialized = specialize(graph, inputs, weights)
    compiled = specialized
    for improve in PASSES:
        compiled = improve(compiled, weights)
    compiled, layouts = choose_layouts(compiled, weights, like, graph.precision == "bfloat16")
    compiled, pairs = fuse_expansions(compiled, weights)
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
        resizable,
    )
