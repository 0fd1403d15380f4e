"""Write interleaved channels at once."""

from dataclasses import replace

from ai3.graph.graph import Graph, Node
from ai3.graph.weights import WeightStore


def fuse_shuffles(graph: Graph, _: WeightStore) -> Graph:
    """Make the shuffle of channels after two branches one operation that moves everything once (Ma
    et al., "ShuffleNet V2", ECCV'18, arXiv 1807.11164, section 3).

    A concatenation of equal parts, whose elements a reshape and a permutation interleave, becomes
    `stack`, and that with a reshape after it `interleave`. If only slices along the same dimension
    read this, each of them takes its part of the inputs itself.
    """
    if not any(node.op == "concat" for node in graph.nodes):
        return graph
    for rule in (_Stack, _Interleave, _Slice):
        fuse = rule(graph)
        graph = replace(graph, nodes=tuple(map(fuse, graph.nodes))).needed()
    return graph


class _Rule:
    """Replaces a node, together with those before it that only it reads."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses = graph.uses()
        self.nodes = {node.name: node for node in graph.nodes}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.graph.specs[name].shape)

    def only(self, op: str, name: str) -> Node | None:
        node = self.nodes[name] if name in self.nodes and self.uses[name] == 1 else None
        return node if node is not None and node.op == op else None


class _Stack(_Rule):
    def __call__(self, node: Node) -> Node:
        split = self.only("reshape", node.inputs[0]) if node.op == "permute" else None
        joined = self.only("concat", split.inputs[0]) if split is not None else None
        if split is None or joined is None:
            return node
        part = self.shape(joined.inputs[0])
        rank = len(part)
        along = joined.attributes.get("dim", 0) % rank
        swapped = list(range(rank + 1))
        swapped[along : along + 2] = [along + 1, along]
        equal = all(self.shape(name) == part for name in joined.inputs)
        parts = (*part[:along], len(joined.inputs), *part[along:])
        turned = [dim % (rank + 1) for dim in node.attributes["dims"]]
        if not equal or self.shape(split.name) != parts or turned != swapped:
            return node
        return node.having(op="stack", inputs=joined.inputs, attributes={"dim": along + 1})


class _Interleave(_Rule):
    def __call__(self, node: Node) -> Node:
        stack = self.only("stack", node.inputs[0]) if node.op == "reshape" else None
        if stack is None:
            return node
        part = self.shape(stack.inputs[0])
        along = stack.attributes["dim"] % (len(part) + 1) - 1
        merged = (*part[:along], part[along] * len(stack.inputs), *part[along + 1 :])
        if along < 0 or self.shape(node.name) != merged:
            return node
        return node.having(op="interleave", inputs=stack.inputs, attributes={"dim": along})


class _Slice(_Rule):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.slices: dict[str, list[Node]] = {}
        for node in graph.nodes:
            if node.op == "slice":
                self.slices.setdefault(node.inputs[0], []).append(node)

    def __call__(self, node: Node) -> Node:
        whole = self.nodes.get(node.inputs[0]) if node.op == "slice" else None
        if whole is None or whole.op != "interleave" or "end" in whole.attributes:
            return node
        along, shape = whole.attributes["dim"], self.shape(whole.name)
        slices = self.slices[whole.name]
        taken = sum(self.shape(part.name)[along] for part in slices)
        alike = all(
            part.attributes.get("dim", 0) % len(shape) == along
            and part.attributes.get("step", 1) == 1
            for part in slices
        )
        if not alike or self.uses[whole.name] != len(slices) or taken > shape[along]:
            return node
        given = (node.attributes.get(name) for name in ("start", "end"))
        start, end, _ = slice(*given).indices(shape[along])
        attributes = {"dim": along, "start": start, "end": max(start, end)}
        return node.having(op="interleave", inputs=whole.inputs, attributes=attributes)
