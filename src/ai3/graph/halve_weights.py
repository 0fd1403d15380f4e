"""Hold large weights in two halves, of which bfloat16 reads one."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from ai3 import _core
from ai3.arrays import HalvedArray
from ai3.graph.graph import Graph, Node, Weight

LARGE = 32 << 20
"""Bytes of a weight that do not stay in a processor's caches from one run to the next: what is
read again of it takes most of a layer of few rows."""


def halve_weights(graph: Graph) -> Graph:
    """Linear layers whose values may be bfloat16, or whose algorithms compute in it, hold large
    weights as an `arrays.HalvedArray`: what few rows read of them needs no rounded copy then."""
    readers: dict[int, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for weight in node.weights:
            readers[id(weight)].append(node)
    halved: dict[int, Weight] = {}

    def of(weight: Weight) -> Weight:
        if not isinstance(weight, np.ndarray) or weight.nbytes < LARGE:
            return weight
        if not all(_is_rounded(node, weight, graph) for node in readers[id(weight)]):
            return weight
        if id(weight) not in halved:
            halved[id(weight)] = HalvedArray(weight)
        return halved[id(weight)]

    nodes = [node.having(weights=tuple(map(of, node.weights))) for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes)) if halved else graph


def _is_rounded(node: Node, weight: "np.ndarray[Any, Any]", graph: Graph) -> bool:
    """Whether the node may read the weight as bfloat16."""
    if node.op != "linear" or weight is not node.weights[0] or weight.dtype != np.float32:
        return False
    if node.algorithm.endswith(" bf16"):
        return True
    if graph.precision != "bfloat16":
        return False
    row = [_core.Spec("bfloat16", (1, weight.shape[1]))]
    problem = _core.problem("linear", row, _core.Weights.of(node.weights, False))
    return problem.takes_bfloat16(node.algorithm)
