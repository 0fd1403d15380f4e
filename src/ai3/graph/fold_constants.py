"""Compute once what depends on constants alone."""

from dataclasses import replace

import numpy as np

from ai3.graph.graph import CONSTANT, FOREIGN, Graph
from ai3.graph.specialize import problem_of
from ai3.graph.weights import WeightStore
from ai3.ops import ON_CPU
from ai3.report import operations_of

LARGEST = 1 << 24
"""Bytes of the largest constant that is made: what is larger is cheaper to compute again."""

LONGEST = 1 << 30
"""Multiplications and additions that one may take."""


def fold_constants(graph: Graph, weights: WeightStore) -> Graph:
    """Replace each node of a specialized graph that reads only constants by its result."""
    arrays = {node.name: node.weights[0] for node in graph.nodes if node.op == CONSTANT}
    if not arrays:
        return graph
    nodes = []
    for node in graph.nodes:
        if (
            node.op not in (CONSTANT, FOREIGN)
            and node.inputs
            and all(name in arrays for name in node.inputs)
            and graph.specs[node.name].bytes <= LARGEST
        ):
            problem = problem_of(node, graph.specs, weights)
            if operations_of(node, problem) <= LONGEST:
                known = node.algorithm in ON_CPU[node.op]
                algorithm = node.algorithm if known else "default"
                result = problem.run(algorithm, *(arrays[name] for name in node.inputs))
                array = np.array(result.numpy())
                arrays[node.name] = array
                node = node.having(op=CONSTANT, inputs=(), attributes={}, weights=(array,))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)).needed()
