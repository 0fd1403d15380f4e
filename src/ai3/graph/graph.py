"""A network as a list of operations on named values."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from ai3 import _core
from ai3.arrays import Bfloat16Array, HalvedArray
from ai3.graph import expression
from ai3.graph.expression import Expression

Weight: TypeAlias = "np.ndarray[Any, Any] | HalvedArray | Bfloat16Array | None"
"""One of NumPy's arrays, one of float32 in halves (`halve_weights.py`), or one of bfloat16, see
NARROW_WEIGHTS."""

CONSTANT = "constant"
"""The op of a node that is an array: its only weight, or what its attribute `value` comes to."""

FOREIGN = "torch"
"""The op of a node that the framework does not have: `call` computes it."""


KINDS = {
    **dict.fromkeys(("float32", "float64", "bfloat16"), "real"),
    **dict.fromkeys(("int64", "int32", "uint8"), "integer"),
    "bool": "bool",
}
"""Of each dtype what kind of values it has."""

PRECISIONS = ("float32", "bfloat16")

NARROW_WEIGHTS = ("conv2d", "linear", "conv_transpose2d")
"""Operations whose weights of more dimensions than one are held as bfloat16 where the network's
are; other weights of such a network, and its constants, are held as float32."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation; its name is its output's name. An attribute may be an Expression."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    module: str = ""
    """The module's qualified name in the user's network; empty for a function's call."""
    algorithm: str = "default"
    call: Callable[..., Any] | None = None

    @property
    def label(self) -> str:
        """What the user knows the node by."""
        return self.module or self.name

    def having(self, **fields: Any) -> "Node":
        """The node with other fields: `dataclasses.replace` in a fifth of its time."""
        node = object.__new__(Node)
        node.__dict__.update(self.__dict__, **fields)
        return node


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which they can run; values are named."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    structure: Any = None
    """How the outputs are handed out: tuples, lists, dicts and Records of indices into `outputs`
    and of Plain; None for the one output, or the tuple of several."""
    checks: tuple[Expression, ...] = ()
    """What holds for the inputs' shapes."""
    specs: Mapping[str, _core.Spec] = field(default_factory=dict)
    """The dtype and shape of every value where the inputs' are known: attributes then hold no
    expressions."""
    takes: Mapping[str, str] = field(default_factory=dict)
    """For inputs, by name, the kind of dtype that they must be of, one of KINDS; any where none."""
    precision: str = "float32"
    """One of PRECISIONS: the least exact dtype in which values of float32 may be held."""
    narrow: bool = False
    """Whether the floating-point inputs and outputs are bfloat16, between which values are float32
    but for what `precision` permits."""

    @cached_property
    def varying(self) -> Mapping[str, tuple[str, ...]]:
        """By the names of nodes their attributes that hold expressions, where they have any."""
        found = {
            node.name: tuple(k for k, v in node.attributes.items() if expression.depends(v))
            for node in self.nodes
        }
        return {name: attributes for name, attributes in found.items() if attributes}

    @cached_property
    def weight_dtypes(self) -> tuple[str, ...]:
        """The dtypes of the nodes' weights, in the order in which they are met."""
        met = (w.dtype.name for node in self.nodes for w in node.weights if w is not None)
        return tuple(dict.fromkeys(met))

    def uses(self) -> Counter[str]:
        """How often each value is read, as an output of the graph too."""
        return Counter([*self.outputs, *(name for node in self.nodes for name in node.inputs)])

    def with_algorithms(self, names: Mapping[str, str]) -> "Graph":
        """The graph in which each node in `names` runs the algorithm given there."""
        nodes = [node.having(algorithm=names.get(node.name, node.algorithm)) for node in self.nodes]
        return replace(self, nodes=tuple(nodes))

    def renamed(self, nodes: tuple[Node, ...], names: Mapping[str, str]) -> "Graph":
        """The graph of `nodes` in which each value in `names` is read under its new name."""

        def changed(node: Node) -> Node:
            inputs, attributes = node.inputs, node.attributes
            if any(name in names for name in inputs):
                inputs = tuple(names.get(name, name) for name in inputs)
            if not self.specs:
                attributes = {k: expression.renamed(v, names) for k, v in attributes.items()}
            same = inputs is node.inputs and attributes is node.attributes
            return node if same else node.having(inputs=inputs, attributes=attributes)

        return replace(
            self,
            nodes=tuple(map(changed, nodes)),
            outputs=tuple(names.get(name, name) for name in self.outputs),
            checks=expression.renamed(self.checks, names),
        )

    def needed(self) -> "Graph":
        """The graph without the nodes whose values nobody reads, nor the shapes of them."""
        wanted = set(self.outputs) | set(expression.reads(self.checks))
        kept = []
        for node in reversed(self.nodes):
            if node.name in wanted:
                kept.append(node)
                wanted.update(node.inputs)
                if not self.specs:
                    wanted.update(expression.reads(tuple(node.attributes.values())))
        return replace(self, nodes=tuple(reversed(kept)))

    def __str__(self) -> str:
        from ai3.graph.text import graph_text

        return graph_text(self)


@dataclass(frozen=True)
class Record:
    """A named tuple or dataclass among the outputs."""

    make: Callable[..., Any]
    fields: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Plain:
    """Among the outputs what is the same for all inputs: None, a number or a text."""

    value: bool | int | float | str | None


def assemble(structure: Any, values: tuple[Any, ...]) -> Any:
    """The outputs as the network hands them out; see `Graph.structure`."""
    if structure is None:
        return values[0] if len(values) == 1 else values
    if isinstance(structure, int):
        return values[structure]
    if isinstance(structure, Plain):
        return structure.value
    if isinstance(structure, Record):
        return structure.make(**{k: assemble(part, values) for k, part in structure.fields})
    if isinstance(structure, dict):
        return {key: assemble(part, values) for key, part in structure.items()}
    return type(structure)(assemble(part, values) for part in structure)
