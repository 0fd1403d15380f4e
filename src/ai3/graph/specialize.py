"""From a graph for any shape to the graph for one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ai3 import _core
from ai3.graph import expression
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.weights import WeightStore


def specialize(graph: Graph, inputs: Sequence[_core.Spec], weights: WeightStore) -> Graph:
    """The graph in which every expression is what it is for these inputs, with all `specs`.

    Raises ValueError, with the node's name, where inputs do not fit.
    """
    specs = dict(zip(graph.inputs, inputs, strict=True))
    shapes: dict[str, tuple[int, ...]] = {name: spec.shape for name, spec in specs.items()}
    nodes = []
    for node in graph.nodes:
        try:
            if node.op == CONSTANT:
                node = _constant(node, shapes, inputs[0].dtype if inputs else "float32")
                array = node.weights[0]
                assert array is not None
                specs[node.name] = _core.Spec(array.dtype.name, array.shape)
            else:
                node = replace(node, attributes=_attributes(node, shapes))
                specs[node.name] = problem_of(node, specs, weights).output
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise ValueError(f"{node.label}: {error}") from None
        shapes[node.name] = specs[node.name].shape
        nodes.append(node)
    for check in graph.checks:
        if not expression.evaluate(check, shapes):
            raise ValueError(
                f"the network requires {expression.text(check)}, which inputs of "
                f"{', '.join(str(spec.shape) for spec in inputs)} do not fulfil"
            )
    return replace(graph, nodes=tuple(nodes), specs=specs, checks=())


def problem_of(node: Node, specs: Mapping[str, _core.Spec], weights: WeightStore) -> _core.Problem:
    """The problem of a node whose attributes hold no expressions."""
    return _core.problem(
        node.op,
        [specs[name] for name in node.inputs],
        weights.of(node.weights),
        dict(node.attributes),
    )


def _attributes(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {
        name: expression.evaluate(value, shapes) if expression.depends(value) else value
        for name, value in node.attributes.items()
    }


def _constant(node: Node, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Node:
    if node.weights:
        return node
    value = expression.evaluate(node.attributes["value"], shapes)
    return replace(node, attributes={}, weights=(np.asarray(value, dtype=dtype),))
