"""A graph as a person reads it."""

from ai3.graph import expression
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.ops import OPERATIONS


def graph_text(graph: Graph) -> str:
    """One line for each node: name, op, attributes that are not the default, what it reads, the
    output's shape and form where they are known, the algorithm, the module."""
    rows: list[tuple[str, ...]] = [("value", "operation", "reads", "shape", "algorithm", "module")]
    rows += [(name, "input", "", _shape(graph, name), "", "") for name in graph.inputs]
    rows += [_row(graph, node) for node in graph.nodes]
    rows += [(name, "output", "", _shape(graph, name), "", "") for name in graph.outputs]
    used = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in used]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*used, strict=True)
    ]
    return "\n".join([*lines, *(f"requires {expression.text(check)}" for check in graph.checks)])


def _row(graph: Graph, node: Node) -> tuple[str, ...]:
    defaults = OPERATIONS[node.op].attributes if node.op in OPERATIONS else {}
    given = [
        f"{name}={expression.text(value)}"
        for name, value in node.attributes.items()
        if name not in defaults or not _same(value, defaults[name])
    ]
    weights = [expression.text(weight.shape) for weight in node.weights if weight is not None]
    inside = ", ".join([*weights, *given])
    return (
        node.name,
        f"{node.op}({inside})" if inside else node.op,
        ", ".join(node.inputs),
        _shape(graph, node.name),
        "" if node.op == CONSTANT else node.algorithm,
        node.module,
    )


def _same(value: object, default: object) -> bool:
    if expression.depends(value):
        return False
    if isinstance(value, tuple | list) and isinstance(default, int):
        return all(part == default for part in value)
    return bool(value == default)


def _shape(graph: Graph, name: str) -> str:
    spec = graph.specs.get(name)
    if spec is None:
        return ""
    form = (spec.dtype if spec.dtype == "bfloat16" else "", spec.layout)
    return " ".join(
        [expression.text(spec.shape), *(part for part in form if part not in ("", "dense"))]
    )
