"""Remove what changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ai3 import _core
from ai3.graph.graph import Graph, Node
from ai3.graph.weights import WeightStore


def eliminate(graph: Graph, weights: WeightStore) -> Graph:
    """Remove nodes of a specialized graph whose output is their first input, and make one of
    permutations, or of changes of shape, that follow one another."""
    graph = join(graph)
    names: dict[str, str] = {}
    for node in graph.nodes:
        if changes_nothing(node, graph.specs):
            names[node.name] = names.get(node.inputs[0], node.inputs[0])
    kept = tuple(node for node in graph.nodes if node.name not in names)
    return graph.renamed(kept, names).needed()


def changes_nothing(node: Node, specs: Mapping[str, _core.Spec]) -> bool:
    """Whether the node's output is its first input."""
    same = _SAME.get(node.op)
    if same is None:
        return False
    spec = specs[node.inputs[0]]
    return spec == specs[node.name] and same(node, spec)


def join(graph: Graph) -> Graph:
    """One of permutations, or of changes of shape, that follow one another."""
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        before = nodes.get(node.inputs[0]) if node.inputs else None
        if before is not None and before.op == node.op == "permute":
            first, second = before.attributes["dims"], node.attributes["dims"]
            dims = tuple(first[dim] for dim in second)
            node = node.having(inputs=before.inputs, attributes={"dims": dims})
        elif before is not None and before.op == "reshape" and node.op in ("reshape", "flatten"):
            shape = {"shape": graph.specs[node.name].shape}
            node = node.having(op="reshape", inputs=before.inputs, attributes=shape)
        nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values())).needed()


def _always(_: Node, __: _core.Spec) -> bool:
    return True


def _keeps_order(node: Node, spec: _core.Spec) -> bool:
    rank = len(spec.shape)
    return [dim % rank for dim in node.attributes["dims"]] == list(range(rank))


def _pads_nothing(node: Node, _: _core.Spec) -> bool:
    return not any(node.attributes["pad"])


def _turns_nothing(node: Node, _: _core.Spec) -> bool:
    shifts = node.attributes["shifts"]
    return not (any(shifts) if isinstance(shifts, tuple | list) else shifts)


def _forward(node: Node, _: _core.Spec) -> bool:
    return bool(node.attributes.get("step", 1) == 1)


_SAME: dict[str, Callable[[Node, _core.Spec], bool]] = {
    "reshape": _always,
    "flatten": _always,
    "expand": _always,
    "concat": lambda node, _: len(node.inputs) == 1,
    "permute": _keeps_order,
    "pad": _pads_nothing,
    "roll": _turns_nothing,
    "slice": _forward,
    "pointwise": lambda node, spec: node.attributes["program"] == f"{spec.dtype}(x0)",
}
"""For an operation, whether an output of the input's shape is the input."""
