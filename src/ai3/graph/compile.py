"""From a graph and the shapes of its inputs to an executor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai3 import _core
from ai3.errors import UnsupportedAlgorithmError
from ai3.graph.graph import Graph, Node
from ai3.graph.memory import Lifetime, plan_memory
from ai3.ops import OPERATIONS

Location = tuple[str, int]


def infer(
    graph: Graph, inputs: Sequence[_core.Spec], weights: Mapping[str, _core.Weights]
) -> dict[str, _core.Problem]:
    """The problem of each node. ValueError names the node whose inputs do not fit."""
    specs = dict(zip(graph.inputs, inputs, strict=True))
    problems = {}
    for node in graph.nodes:
        try:
            problem = _core.problem(
                node.op,
                [specs[name] for name in node.inputs],
                weights[node.name],
                dict(node.attributes),
            )
        except ValueError as error:
            raise ValueError(f"{node.label}: {error}") from None
        problems[node.name] = problem
        specs[node.name] = problem.output
    return problems


def choose(graph: Graph, problems: Mapping[str, _core.Problem], unsupported: str) -> dict[str, str]:
    """The algorithm of each node that has a problem: `unsupported` where its own refuses it.

    Raises UnsupportedAlgorithmError, with every refusal, where that is "raise" or refuses too.
    """
    chosen, refusals = {}, []
    for node in graph.nodes:
        problem = problems.get(node.name)
        if problem is None:
            continue
        algorithm, reason = node.algorithm, problem.refusal(node.algorithm)
        if reason and unsupported != "raise":
            algorithm, reason = unsupported, problem.refusal(unsupported)
        if reason:
            refusals.append((node.label, algorithm, reason))
        chosen[node.name] = algorithm
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
    """An executor, for each of its steps the name of the node that it runs, and for each node its
    problem and the algorithm that does it."""

    executor: _core.Executor
    steps: tuple[str, ...]
    problems: Mapping[str, _core.Problem]
    algorithms: Mapping[str, str]


def compile_graph(
    graph: Graph,
    inputs: Sequence[_core.Spec],
    weights: Mapping[str, _core.Weights],
    unsupported: str = "raise",
) -> Compiled:
    """Plan every node and place every value. Raises what `infer` and `choose` do."""
    problems = infer(graph, inputs, weights)
    chosen = choose(graph, problems, unsupported)
    resolved = {name: problems[name].resolve(algorithm) for name, algorithm in chosen.items()}

    # Every value is memory of its own, or shares the memory of its root.
    root = {name: name for name in graph.inputs}
    steps: list[Node] = []
    for node in graph.nodes:
        if OPERATIONS[node.op].view and resolved[node.name] == "direct":
            root[node.name] = root[node.inputs[0]]
        else:
            root[node.name] = node.name
            steps.append(node)

    last_read = {root[name]: len(steps) for name in graph.outputs}
    for index in reversed(range(len(steps))):
        for name in steps[index].inputs:
            last_read.setdefault(root[name], index)

    # The memory of an operation's last-read input becomes its output's, where that is safe.
    for index, node in enumerate(steps):
        first = root[node.inputs[0]] if node.inputs else ""
        if (
            OPERATIONS[node.op].in_place
            and resolved[node.name] == "direct"
            and first not in graph.inputs
            and last_read[first] == index
            and all(root[name] != first for name in node.inputs[1:])
            and problems[node.name].inputs[0] == problems[node.name].output
        ):
            for name in [name for name, target in root.items() if target == node.name]:
                root[name] = first
            last_read[first] = last_read.get(node.name, index)

    places: dict[str, Location] = {name: ("input", i) for i, name in enumerate(graph.inputs)}
    copies: list[tuple[str, int]] = []
    for i, name in enumerate(graph.outputs):
        if root[name] in places:
            copies.append((name, i))
        else:
            places[root[name]] = ("output", i)

    lifetimes: dict[str, Lifetime] = {}
    for index, node in enumerate(steps):
        owner = root[node.name]
        if owner not in places and owner not in lifetimes:
            last = max(index, last_read.get(owner, index))
            lifetimes[owner] = Lifetime(problems[node.name].output.bytes, index, last)
    offsets, arena_bytes = plan_memory(list(lifetimes.values()))
    for name, offset in zip(lifetimes, offsets, strict=True):
        places[name] = ("arena", offset)

    specs = dict(zip(graph.inputs, inputs, strict=True))
    specs.update({name: problem.output for name, problem in problems.items()})
    compiled = [
        (
            problems[node.name],
            resolved[node.name],
            [places[root[name]] for name in node.inputs],
            places[root[node.name]],
        )
        for node in steps
    ]
    # An output that is also an input, or another output, is a copy of it.
    for name, i in copies:
        same = _core.problem("flatten", [specs[name]])
        compiled.append((same, "direct", [places[root[name]]], ("output", i)))
    executor = _core.Executor(
        list(inputs), [specs[name] for name in graph.outputs], compiled, arena_bytes
    )
    return Compiled(executor, tuple(node.name for node in steps), problems, resolved)
