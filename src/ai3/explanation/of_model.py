"""Explains a `Model`."""

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from ai3 import _core
from ai3.explanation.alternatives import Estimates, Measured, stands_for
from ai3.explanation.exact import distance, elements, in_double, memory_of, values
from ai3.explanation.explanation import Explanation, Layer
from ai3.explanation.roofline import roofline
from ai3.graph import Graph, Node
from ai3.graph.compile import Compiled
from ai3.graph.graph import CONSTANT
from ai3.machine import MIXED, Watch
from ai3.model import Model, _run_foreign
from ai3.report import operations_of


def explain(model: Model, inputs: Sequence[Any], repeat: int, errors: bool) -> Explanation:
    given = model._readable(inputs)
    model(*inputs)
    values_of: dict[str, Any] = dict(zip(model.graph.inputs, given, strict=True))
    exact: dict[str, Any] = {}
    if errors:
        exact = {name: elements(array) for name, array in values_of.items()}
    layers: list[Layer] = []
    arena, watch, states, measured = 0, Watch(), set(), Measured()
    for part in model._parts:
        if isinstance(part, Node):
            layers.append(_foreign(part, values_of))
            exact.clear()  # what torch computes is not known in float64
            continue
        own = [values_of[name] for name in part.inputs]
        specs = _core.specs_of(own)
        pinned = model._pins_of(part, specs) is not None
        compiled = model._compiled(part, specs)
        arena = max(arena, compiled.executor.arena_bytes)
        times, state = watch(partial(_times, compiled, own, repeat))
        states.add(state)
        layers += _explained(compiled, part, own, exact, times, errors, measured, pinned)
        values_of.update(zip(part.outputs, compiled.executor(own, False), strict=True))
    outputs = [(values_of[name], exact.get(name)) for name in model.graph.outputs]
    apart = [distance(elements(actual), value) for actual, value in outputs] if errors else []
    known = [error for error in apart if error is not None]
    weights = {id(w): w.nbytes for n in model.graph.nodes for w in n.weights if w is not None}
    return Explanation(
        layers=tuple(layers),
        roofline=roofline(watch.state.threads, watch.state.name),
        ms=sum(layer.ms for layer in layers),
        error=max(known, default=None) if errors else None,
        weight_bytes=sum(weights.values()),
        arena_bytes=arena,
        state=states.pop() if len(states) == 1 else MIXED,
    )


def _foreign(node: Node, known: dict[str, Any]) -> Layer:
    started = perf_counter()
    known[node.name] = _run_foreign(node, known, None)
    ms = 1e3 * (perf_counter() - started)
    result = known[node.name]
    shape = tuple(getattr(result, "shape", ()))
    return Layer(
        name=node.label,
        id=node.name,
        op=node.op,
        algorithm="torch",
        inputs=node.inputs,
        shape=shape,
        dtype=str(getattr(result, "dtype", "")).removeprefix("torch."),
        layout="",
        why="the framework does not have it",
        why_dtype="as torch gives it",
        ms=ms,
        output_bytes=getattr(result, "nbytes", 0),
    )


def _times(compiled: Compiled, inputs: Sequence[Any], repeat: int) -> dict[str, float]:
    """The median time of each step, in ms."""
    runs = [compiled.executor.profile(inputs) for _ in range(max(1, repeat))]
    return {name: median(run[i] for run in runs) for i, name in enumerate(compiled.steps)}


def _explained(
    compiled: Compiled,
    asked: Graph,
    inputs: Sequence[Any],
    exact: dict[str, Any],
    times: dict[str, float],
    errors: bool,
    measured: Measured,
    pinned: bool,
) -> Iterator[Layer]:
    """The layers of a part; its values in float64 are added to `exact`, where those of its inputs
    are there."""
    graph, estimates = compiled.graph, Estimates(compiled, asked, measured)
    requested = {node.name: node.algorithm for node in graph.nodes}
    memory = dict(zip(graph.inputs, map(memory_of, inputs), strict=True))
    left = graph.uses()
    for node in graph.nodes:
        if node.op == CONSTANT:
            (array,) = node.weights
            memory[node.name] = memory_of(array)
            if errors:
                exact[node.name] = values(memory[node.name], graph.specs[node.name])
            continue
        algorithm, ms = compiled.algorithms[node.name], times.get(node.name, 0.0)
        weights = _core.Weights.of(node.weights, False)
        specs = [graph.specs[name] for name in node.inputs]
        problem = _core.problem(node.op, specs, weights, dict(node.attributes))
        own = [memory[name] for name in node.inputs]
        (output,), _ = _core.probe(problem, algorithm, own, [0])
        memory[node.name] = output.numpy()
        error = drift = None
        if errors:
            actual = values(memory[node.name], problem.output)
            error = distance(actual, in_double(node, list(map(values, own, specs))))
            if all(name in exact for name in node.inputs):
                true = in_double(node, [exact[name] for name in node.inputs])
                drift = distance(actual, true)
                if true is not None:
                    exact[node.name] = true
        own_weights = sum(w.nbytes for w in node.weights if w is not None)
        packed = weights.packed_bytes
        yield Layer(
            name=node.label,
            id=node.name,
            op=node.op,
            algorithm=algorithm,
            inputs=node.inputs,
            shape=problem.output.shape,
            dtype=problem.output.dtype,
            layout=problem.output.layout,
            why=_why(requested[node.name], algorithm, algorithm in measured.of(problem), pinned),
            why_dtype=estimates.why_dtype(node),
            ms=ms,
            flops=operations_of(node, problem),
            moved=sum(s.bytes for s in (*specs, problem.output)) + (packed or own_weights),
            error=error,
            drift=drift,
            packed_bytes=packed,
            workspace_bytes=problem.workspace_bytes(algorithm),
            output_bytes=problem.output.bytes,
            alternatives=estimates.alternatives(node, ms) if ms else (),
        )
        for name in node.inputs:
            left[name] -= 1
            if not left[name]:
                del memory[name]
                exact.pop(name, None)
    for name, own_name in zip(asked.outputs, graph.outputs, strict=True):
        if own_name in exact:
            exact[name] = exact[own_name]


def _why(asked: str, algorithm: str, was_measured: bool, pinned: bool) -> str:
    if pinned:
        return "which its plan says" + ", and was measured" * was_measured
    if asked == algorithm:
        return "which was chosen by its name"
    return stands_for(asked, was_measured)
