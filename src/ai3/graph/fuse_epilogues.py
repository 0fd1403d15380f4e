"""Let a convolution or linear layer add and activate while its result is in registers."""

from dataclasses import replace

from ai3.graph.graph import Graph, Node
from ai3.graph.specialize import fusible
from ai3.graph.weights import WeightStore

TAKES_EPILOGUE = ("conv2d", "linear")

PARAMETER = {
    "relu": None,
    "relu6": None,
    "leaky_relu": "negative_slope",
    "silu": None,
    "hardswish": None,
    "hardsigmoid": None,
    "sigmoid": None,
    "tanh": None,
    "gelu": None,
    "elu": "alpha",
}
"""The activations that a kernel applies, and the attribute that is their parameter."""


def fuse_epilogues(graph: Graph, weights: WeightStore) -> Graph:
    """Move a sum with a tensor of the same shape, and the activation after that, into the
    convolution or linear layer before them, where nothing else reads its result and no algorithm
    of the user's does any of them. The node takes the place and name of the last of them."""
    uses = graph.uses()
    nodes: dict[str, Node] = {}

    def free(node: Node) -> bool:
        return fusible(node, graph.specs, weights)

    for node in graph.nodes:
        nodes[node.name] = node
        fused = None
        for position, name in enumerate(node.inputs):
            before = nodes.get(name)
            if before is not None and before.op in TAKES_EPILOGUE and uses[name] == 1:
                fused = _with_sum(graph, before, node, position) or _activated(before, node)
                if fused is not None and free(node) and free(before):
                    del nodes[name]
                    nodes[node.name] = fused
                    break
    return replace(graph, nodes=tuple(nodes.values()))


def _with_sum(graph: Graph, before: Node, node: Node, position: int) -> Node | None:
    if node.op != "add" or len(before.inputs) > 1 or "activation" in before.attributes:
        return None
    other = node.inputs[1 - position]
    alike = graph.specs[other] == graph.specs[before.name] == graph.specs[node.name]
    if not alike or node.attributes.get("alpha", 1) != 1:
        return None
    return before.having(name=node.name, inputs=(*before.inputs, other))


def _activated(before: Node, node: Node) -> Node | None:
    if node.op not in PARAMETER or "activation" in before.attributes:
        return None
    name = "gelu_tanh" if node.attributes.get("approximate") == "tanh" else node.op
    attributes = {**before.attributes, "activation": name}
    parameter = PARAMETER[node.op]
    if parameter is not None:
        attributes["activation_parameter"] = node.attributes[parameter]
    return before.having(name=node.name, attributes=attributes)
