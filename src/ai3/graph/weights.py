"""The weights of nodes as the core holds them."""

from collections.abc import Sequence

from ai3 import _core
from ai3.graph.graph import Graph, Weight


class WeightStore:
    """One `Weights` for each set of arrays, which it refers to and does not copy: nodes that share
    arrays, and all executors, share what algorithms have packed of them."""

    def __init__(self, graph: Graph) -> None:
        self._known: dict[tuple[int, ...], _core.Weights] = {}
        self._empty = _core.Weights.of(())
        for node in graph.nodes:
            if node.weights:
                self._known.setdefault(_key(node.weights), _core.Weights.of(node.weights, False))

    def of(self, weights: Sequence[Weight]) -> _core.Weights:
        """What the graph's nodes of these arrays share; of arrays that are in none, a new one."""
        if not weights:
            return self._empty
        found = self._known.get(_key(weights))
        return _core.Weights.of(weights, False) if found is None else found

    @property
    def packed_bytes(self) -> int:
        """What algorithms have packed of all of them."""
        return sum(weights.packed_bytes for weights in self._known.values())


def _key(weights: Sequence[Weight]) -> tuple[int, ...]:
    return tuple(map(id, weights))
