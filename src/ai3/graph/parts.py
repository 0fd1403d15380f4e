"""A graph cut around the nodes that the framework does not run."""

from ai3.graph import expression
from ai3.graph.graph import FOREIGN, Graph, Node


def cut(graph: Graph) -> tuple[Graph | Node, ...]:
    """The foreign nodes, and between them graphs that read what comes before them and give what
    is read after them. The whole graph where no node is foreign."""
    if all(node.op != FOREIGN for node in graph.nodes):
        return (graph,)
    groups: list[list[Node] | Node] = []
    for node in graph.nodes:
        if node.op == FOREIGN:
            groups.append(node)
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(node)
        else:
            groups.append([node])
    parts: list[Graph | Node] = []
    wanted = dict.fromkeys([*graph.outputs, *expression.reads(graph.checks)])
    for group in reversed(groups):
        if isinstance(group, Node):
            parts.append(group)
            wanted.update(dict.fromkeys(reads(group)))
            continue
        made = {node.name for node in group}
        outputs = tuple(name for name in wanted if name in made)
        outside = dict.fromkeys(name for node in group for name in reads(node) if name not in made)
        takes = {name: kind for name, kind in graph.takes.items() if name in outside}
        parts.append(
            Graph(tuple(outside), tuple(group), outputs, takes=takes, precision=graph.precision)
        )
        wanted.update(outside)
    return tuple(reversed(parts))


def reads(node: Node) -> tuple[str, ...]:
    """What a node reads, be it only the shape of it."""
    shapes = expression.reads(tuple(node.attributes.values()))
    return tuple(dict.fromkeys([*node.inputs, *shapes]))
