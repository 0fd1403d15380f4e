"""Find attention that is written out as products and a softmax."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ai3.graph.graph import CONSTANT, Graph, Node

ATTENTION = "scaled_dot_product_attention"


def fuse_attention(graph: Graph) -> Graph:
    """Make softmax(q k^T * scale + mask) v one operation, whose scores never leave the cache.

    The scale may be a factor of the product, or of either side of it; it and the mask may be
    absent.
    """
    found = _Matcher(graph)
    nodes = []
    for node in graph.nodes:
        fused = found.attention(node)
        nodes.append(node if fused is None else fused)
    return replace(graph, nodes=tuple(nodes)).needed()


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self._nodes: Mapping[str, Node] = {node.name: node for node in graph.nodes}
        self._uses = graph.uses()

    def attention(self, node: Node) -> Node | None:
        weights = self._only("softmax", node.inputs[0]) if node.op == "matmul" else None
        if weights is None or weights.attributes.get("dim") != -1:
            return None
        scores, mask, scale = weights.inputs[0], None, 1.0
        added = self._only("add", scores)
        if added is not None and added.attributes.get("alpha", 1) == 1:
            first, second = added.inputs
            scores, mask = (first, second) if self._is_product(first) else (second, first)
        scores, scale = self._unscaled(scores, scale)
        product = self._only("matmul", scores)
        if product is None:
            return None
        query, scale = self._unscaled(product.inputs[0], scale)
        turned = self._only("permute", product.inputs[1])
        if turned is None or not _swaps_last(turned.attributes["dims"]):
            return None
        key, scale = self._unscaled(turned.inputs[0], scale)
        inputs = (query, key, node.inputs[1], *([] if mask is None else [mask]))
        attributes = {"is_causal": False, "scale": scale}
        return node.having(op=ATTENTION, inputs=inputs, attributes=attributes)

    def _only(self, op: str, name: str) -> Node | None:
        """The node of this value, if it is of that operation and read once."""
        node = self._nodes.get(name)
        return node if node is not None and node.op == op and self._uses[name] == 1 else None

    def _is_product(self, name: str) -> bool:
        return self._only("matmul", self._unscaled(name, 1.0)[0]) is not None

    def _unscaled(self, name: str, scale: float) -> tuple[str, float]:
        """The value that `name` is a multiple of, and `scale` times the factor."""
        product = self._only("mul", name)
        if product is not None:
            for value, other in (product.inputs, product.inputs[::-1]):
                factor = self._scalar(other)
                if factor is not None:
                    return value, scale * factor
        return name, scale

    def _scalar(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None or node.op != CONSTANT:
            return None
        value: Any = node.weights[0] if node.weights else node.attributes["value"]
        array = np.asarray(value) if isinstance(value, np.ndarray | int | float) else None
        return float(array) if array is not None and array.ndim == 0 else None


def _swaps_last(dims: Any) -> bool:
    if not isinstance(dims, tuple | list):
        return bool(
            getattr(dims, "function", "") == "swapped" and set(dims.arguments[1:]) == {-1, -2}
        )
    order = [dim % len(dims) for dim in dims]
    last = len(dims) - 1
    return len(dims) > 1 and order == [*range(last - 1), last, last - 1]
