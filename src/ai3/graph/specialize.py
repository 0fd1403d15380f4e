"""From a graph for any shape to the graph for one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ai3 import _core
from ai3.algorithms import has_own
from ai3.graph import expression
from ai3.graph.bounds import Budget
from ai3.graph.graph import CONSTANT, KINDS, Graph, Node
from ai3.graph.program import Composer, literal, program_of
from ai3.graph.weights import WeightStore
from ai3.ops import ON_CPU


def specialize(graph: Graph, inputs: Sequence[_core.Spec], weights: WeightStore) -> Graph:
    """The graph in which every expression is what it is for these inputs, with all `specs`.

    Raises ValueError, or TypeError for their dtypes, with the node's name, where inputs do not fit.
    """
    specs = dict(zip(graph.inputs, inputs, strict=True))
    for name, spec in specs.items():
        if (spec.dtype == "bfloat16") != graph.narrow and KINDS[spec.dtype] == "real":
            taken = "bfloat16" if graph.narrow else "float32 or float64"
            raise TypeError(f"the input {name} is {spec.dtype}, and the model takes {taken}")
    for name, taken in graph.takes.items():
        if KINDS[specs[name].dtype] != taken:
            raise TypeError(
                f"the input {name} is {specs[name].dtype}, where the network was converted for "
                f"{taken} values; for others give swap_backend, in sample_input_shape, an array "
                "like it"
            )
    if graph.narrow:
        return _narrow(specialize(*_widened(graph, specs), weights), specs)
    shapes: dict[str, tuple[int, ...]] = {name: spec.shape for name, spec in specs.items()}
    numbers: dict[str, bool | int | float] = {}
    real = _real_dtype(graph, inputs)
    nodes: list[Node] = []
    varying = graph.varying
    budget = Budget()
    for check in graph.checks:
        if shapes.keys() >= set(expression.reads(check)):
            _require(check, shapes, inputs)
    for node in graph.nodes:
        try:
            if node.op == CONSTANT:
                node = _constant(node, shapes, real, numbers, budget)
                array = node.weights[0]
                assert array is not None
                specs[node.name] = _core.Spec(array.dtype.name, array.shape)
            else:
                if node.name in varying:
                    attributes = _attributes(node, varying[node.name], shapes, budget)
                    node = node.having(attributes=attributes)
                node = _typed(node, specs, numbers)
                if node.op == "scaled_dot_product_attention":
                    node, expanded = _with_all_heads(node, specs)
                    nodes += expanded
                specs[node.name] = spec = problem_of(node, specs, weights).output
                if spec.bytes >= LARGE:
                    given = sum(prod(specs[name].shape) for name in node.inputs)
                    budget.spend_on_output(spec.shape, spec.bytes, given)
        except _WRONG as error:
            kind = TypeError if isinstance(error, _core.DTypeError) else ValueError
            raise kind(f"{node.label}: {error}") from None
        shapes[node.name] = specs[node.name].shape
        nodes.append(node)
    for check in graph.checks:
        _require(check, shapes, inputs)
    return replace(graph, nodes=tuple(nodes), specs=specs, checks=())


def _widened(graph: Graph, specs: Mapping[str, _core.Spec]) -> tuple[Graph, list[_core.Spec]]:
    """The same graph with float32 for bfloat16 at its borders, and the specs of its inputs."""
    given = [
        _core.Spec("float32", spec.shape) if spec.dtype == "bfloat16" else spec
        for spec in specs.values()
    ]
    return replace(graph, narrow=False), given


def _narrow(graph: Graph, inputs: Mapping[str, _core.Spec]) -> Graph:
    """The graph that takes these inputs and converts them, and its floating-point outputs."""
    specs = dict(graph.specs)
    before, after, names = [], [], {}

    def conversion(name: str, dtype: str) -> Node:
        attributes = {"layout": "dense", "output_dtype": dtype}
        node = Node(f"{name}_{dtype}", "reorder", (name,), attributes)
        specs[node.name] = _core.Spec(dtype, specs[name].shape)
        return node

    for name, spec in inputs.items():
        if spec.dtype == "bfloat16":
            specs[name] = spec
            before.append(conversion(name, "float32"))
            names[name] = before[-1].name
    graph = graph.renamed(graph.nodes, names)
    outputs = []
    for name in graph.outputs:
        if specs[name].dtype in REAL:
            after.append(conversion(name, "bfloat16"))
            name = after[-1].name
        outputs.append(name)
    nodes = (*before, *graph.nodes, *{node.name: node for node in after}.values())
    return replace(graph, nodes=nodes, outputs=tuple(outputs), specs=specs, narrow=True)


def _require(
    check: expression.Expression,
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Sequence[_core.Spec],
) -> None:
    if not expression.evaluate(check, shapes):
        raise ValueError(
            f"the network requires {expression.text(check)}, which inputs of "
            f"{', '.join(str(spec.shape) for spec in inputs)} do not fulfil"
        )


def _with_all_heads(node: Node, specs: dict[str, _core.Spec]) -> tuple[Node, list[Node]]:
    """Attention in which heads of one of query, key and value are for all heads of the others, with
    the nodes that expand those; their specs are added."""
    outer = [specs[name].shape[:-2] for name in node.inputs[:3]]
    if len(set(outer)) == 1:
        return node, []
    whole = np.broadcast_shapes(*outer)
    made, inputs = [], list(node.inputs)
    for i, name in enumerate(node.inputs[:3]):
        if outer[i] != whole:
            shape = (*whole, *specs[name].shape[-2:])
            inputs[i] = f"{node.name}.{i}"
            made.append(Node(inputs[i], "expand", (name,), {"shape": shape}, (), node.module))
            specs[inputs[i]] = _core.Spec(specs[name].dtype, shape)
    return node.having(inputs=tuple(inputs)), made


def problem_of(node: Node, specs: Mapping[str, _core.Spec], weights: WeightStore) -> _core.Problem:
    """The problem of a node whose attributes hold no expressions."""
    return _core.problem(
        node.op,
        [specs[name] for name in node.inputs],
        weights.of(node.weights),
        dict(node.attributes),
    )


def fusible(node: Node, specs: Mapping[str, _core.Spec], weights: WeightStore) -> bool:
    """Whether passes may fuse a node with others: no algorithm of the user's does it."""
    if node.algorithm == "default" and not has_own(node.op):
        return True  # without asking for what it stands
    if node.algorithm not in ON_CPU[node.op]:
        return True  # a platform's, which has the rest done by others
    return problem_of(node, specs, weights).fusible(node.algorithm)


def _attributes(
    node: Node, varying: Sequence[str], shapes: Mapping[str, tuple[int, ...]], budget: Budget
) -> dict[str, Any]:
    attributes = dict(node.attributes)
    for name in varying:
        attributes[name] = expression.evaluate(attributes[name], shapes, budget)
    return attributes


def _real_dtype(graph: Graph, inputs: Sequence[_core.Spec]) -> str:
    """The floating-point type of numbers: the inputs' or, where none has one, the weights'."""
    given = [spec.dtype for spec in inputs]
    return next((d for d in (*given, *graph.weight_dtypes) if d in REAL), "float32")


_WRONG = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What evaluating a node's expressions may raise where inputs do not fit, or a file was damaged."""

REAL = ("float32", "float64")

LARGE = 1 << 24
"""Bytes of an output that is looked at."""


def _constant(
    node: Node,
    shapes: Mapping[str, tuple[int, ...]],
    real: str,
    numbers: dict[str, bool | int | float],
    budget: Budget,
) -> Node:
    if node.weights:
        return node
    value = expression.evaluate(node.attributes["value"], shapes, budget)
    if isinstance(value, bool | int | float):
        numbers[node.name] = value
    dtype = node.attributes.get("dtype", real)
    return node.having(attributes={}, weights=(np.asarray(value, dtype=dtype),))


def _typed(
    node: Node, specs: Mapping[str, _core.Spec], numbers: Mapping[str, bool | int | float]
) -> Node:
    """Arithmetic and activations on other types than one floating-point one, as the program that
    promotes types as torch does; in it numbers are numbers, not arrays of the network's type."""
    program = program_of(node.op, node.attributes)
    if program is None or (node.op == "pointwise" and not numbers.keys() & set(node.inputs)):
        return node
    dtypes = {specs[name].dtype for name in node.inputs}
    if node.op != "pointwise" and len(dtypes) == 1 and dtypes <= set(REAL):
        return node
    inputs = [name for name in node.inputs if name not in numbers]
    if not inputs:
        return node
    composer = Composer()
    operands = [
        literal(numbers[name]) if name in numbers else composer.input(name) for name in node.inputs
    ]
    text = composer.text(composer.include(program, operands))
    return node.having(op="pointwise", inputs=tuple(composer.inputs), attributes={"program": text})
