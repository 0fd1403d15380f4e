"""A network as a list of operations on named values."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

Weight: TypeAlias = "np.ndarray[Any, Any] | None"


@dataclass(frozen=True, eq=False)
class Node:
    """One operation; its name is its output's name."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    module: str = ""
    """The module's qualified name in the user's network; empty for a function's call."""
    algorithm: str = "default"

    @property
    def label(self) -> str:
        """What the user knows the node by."""
        return self.module or self.name

    def __str__(self) -> str:
        values = [f"{name}={value}" for name, value in self.attributes.items()]
        weights = [str(weight.shape) for weight in self.weights if weight is not None]
        inside = ", ".join([*self.inputs, *weights, *values])
        module = f"  # {self.module}" if self.module else ""
        return f"{self.name} = {self.op}[{self.algorithm}]({inside}){module}"


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which they can run; values are named."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def uses(self) -> Counter[str]:
        """How often each value is read, as an output of the graph too."""
        return Counter([*self.outputs, *(name for node in self.nodes for name in node.inputs)])

    def with_algorithms(self, names: Mapping[str, str]) -> "Graph":
        """The graph in which each node in `names` runs the algorithm given there."""
        nodes = [
            replace(node, algorithm=names.get(node.name, node.algorithm)) for node in self.nodes
        ]
        return Graph(self.inputs, tuple(nodes), self.outputs)

    def renamed(self, nodes: tuple[Node, ...], names: Mapping[str, str]) -> "Graph":
        """The graph of `nodes` in which each value in `names` is read under its new name."""
        return Graph(
            self.inputs,
            tuple(
                replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
                for node in nodes
            ),
            tuple(names.get(name, name) for name in self.outputs),
        )

    def __str__(self) -> str:
        return "\n".join(
            [
                f"inputs {', '.join(self.inputs)}",
                *map(str, self.nodes),
                f"outputs {', '.join(self.outputs)}",
            ]
        )
