"""Let one pass over memory compute a chain of pointwise programs."""

from dataclasses import replace

from ai3.graph.graph import Graph, Node
from ai3.graph.program import Composer, program_of
from ai3.graph.specialize import fusible
from ai3.graph.weights import WeightStore

MOST_INPUTS = 8
"""Of one program: more streams of memory than the processor follows are slower than two passes."""


def fuse_pointwise(graph: Graph, weights: WeightStore) -> Graph:
    """Compute what only one pointwise program reads, and is arithmetic, an activation or such a
    program itself, of the same shape, within it; so too arithmetic and activations of a program's
    result. No custom algorithm is touched."""
    uses = graph.uses()
    nodes: dict[str, Node] = {}

    def free(node: Node) -> bool:
        program = program_of(node.op, node.attributes)
        return program is not None and fusible(node, graph.specs, weights)

    for node in graph.nodes:
        if free(node):
            for name in node.inputs:
                before = nodes.get(name)
                if (
                    before is not None
                    and uses[name] == node.inputs.count(name)
                    and "pointwise" in (before.op, node.op)
                    and graph.specs[name].shape == graph.specs[node.name].shape
                    and free(before)
                    and (fused := _joined(before, node)) is not None
                ):
                    del nodes[name]
                    node = fused
        nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values()))


def _joined(before: Node, node: Node) -> Node | None:
    """The node with what comes before in it; None where that would read too much."""
    programs = program_of(before.op, before.attributes), program_of(node.op, node.attributes)
    assert programs[0] is not None and programs[1] is not None
    composer = Composer()
    inner = composer.include(programs[0], [composer.input(name) for name in before.inputs])
    operands = [inner if name == before.name else composer.input(name) for name in node.inputs]
    text = composer.text(composer.include(programs[1], operands))
    if len(composer.inputs) > MOST_INPUTS:
        return None
    return node.having(op="pointwise", inputs=tuple(composer.inputs), attributes={"program": text})
