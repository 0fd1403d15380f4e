"""Write interleaved channels at once."""

from dataclasses import replace

from ai3.graph.graph import Graph, Node
from ai3.graph.weights import WeightStore


def fuse_shuffles(graph: Graph, _: WeightStore) -> Graph:
    """Make a concatenation of equal parts, whose elements a reshape and a permutation then
    interleave, one `stack`: the shuffle of channels after two branches (Ma et al., "ShuffleNet V2",
    ECCV'18, arXiv 1807.11164, section 3) moves everything once instead of twice."""
    uses = graph.uses()
    nodes = {node.name: node for node in graph.nodes}

    def only(op: str, name: str) -> Node | None:
        node = nodes[name] if name in nodes and uses[name] == 1 else None
        return node if node is not None and node.op == op else None

    def stacked(node: Node) -> Node:
        split = only("reshape", node.inputs[0]) if node.op == "permute" else None
        joined = only("concat", split.inputs[0]) if split is not None else None
        if split is None or joined is None:
            return node
        part = graph.specs[joined.inputs[0]]
        rank = len(part.shape)
        along = joined.attributes.get("dim", 0) % rank
        swapped = list(range(rank + 1))
        swapped[along : along + 2] = [along + 1, along]
        equal = all(graph.specs[name].shape == part.shape for name in joined.inputs)
        parts = (*part.shape[:along], len(joined.inputs), *part.shape[along:])
        turned = [dim % (rank + 1) for dim in node.attributes["dims"]]
        if not equal or tuple(graph.specs[split.name].shape) != parts or turned != swapped:
            return node
        return replace(node, op="stack", inputs=joined.inputs, attributes={"dim": along + 1})

    return replace(graph, nodes=tuple(stacked(node) for node in graph.nodes)).needed()
