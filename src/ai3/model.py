"""What `swap_backend` gives back: a network that the framework runs."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from threading import Lock
from typing import Any

from ai3 import _core, arrays
from ai3.graph import Graph, Node
from ai3.graph.compile import Compiled, compile_graph
from ai3.layers import Layer


@dataclass(frozen=True)
class NodeProfile:
    """One node of a model as it ran: `ms` is the median time, 0 for what costs nothing."""

    name: str
    op: str
    algorithm: str
    shape: tuple[int, ...]
    ms: float


class Model:
    """A network whose operations run the algorithms that were selected. For inference.

    Made by `swap_backend`, or from layers that run one after the other. Takes inputs of any shape
    that the network takes: a plan for a shape is made when it is first met; the latest are kept.
    Safe to call from several threads at a time. Raises ValueError for a shape that does not fit
    and TypeError for an array that is no float32 or float64 in CPU memory.
    """

    _kept_plans = 8
    _graph: Graph
    _lock: Lock

    def __init__(self, layers: Sequence[Layer]) -> None:
        nodes = []
        value = "input"
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layer {index} is a {type(layer).__name__}, not an ai3 layer")
            node = Node(
                name=f"{layer.op}_{index}",
                op=layer.op,
                inputs=(value,),
                attributes=layer.attributes,
                weights=layer.weights,
                algorithm=layer.algorithm,
            )
            nodes.append(node)
            value = node.name
        self._set_graph(Graph(("input",), tuple(nodes), (value,)))

    @classmethod
    def from_graph(cls, graph: Graph, unsupported: str = "raise") -> "Model":
        """The model of a graph; `unsupported` as for `swap_backend`."""
        model = cls.__new__(cls)
        model._set_graph(graph, unsupported)
        return model

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def weights(self) -> Mapping[str, _core.Weights]:
        """The weights of each node, by its name."""
        return self._weights

    def __call__(self, *inputs: Any) -> Any:
        """The network's output, or outputs as a tuple, in the type of the first input."""
        results = self._run(inputs, own=False)
        results = [arrays.like(inputs[0], result) for result in results]
        return results[0] if len(results) == 1 else tuple(results)

    def predict(self, input: Any, out_type: type | None = None) -> Any:
        """The network's output as an `ai3.Tensor`, or as `out_type`.

        Args:
            input: the input, (N, ...) or unbatched; a tuple for a network with several.
            out_type: torch.Tensor, numpy.ndarray, memoryview or ai3.Tensor.
        """
        inputs = input if isinstance(input, tuple) else (input,)
        results = self._run(inputs, own=True)
        results = [result if out_type is None else result.to(out_type) for result in results]
        return results[0] if len(results) == 1 else tuple(results)

    def profile(self, *inputs: Any, repeat: int = 5) -> list[NodeProfile]:
        """Run some times and tell the time, algorithm and output shape of each node."""
        compiled, readable = self._prepare(inputs)
        compiled.executor(readable)
        runs = [compiled.executor.profile(readable) for _ in range(max(1, repeat))]
        times = dict(zip(compiled.steps, map(median, zip(*runs, strict=True)), strict=False))
        return [
            NodeProfile(
                name=node.label,
                op=node.op,
                algorithm=compiled.algorithms[node.name],
                shape=tuple(compiled.problems[node.name].output.shape),
                ms=times.get(node.name, 0.0),
            )
            for node in self._graph.nodes
        ]

    def set_algorithms(self, names: Mapping[str, str]) -> None:
        """Give nodes of the graph, by their names, other algorithms."""
        with self._lock:
            self._graph = self._graph.with_algorithms(names)
            self._compiled.clear()

    def __repr__(self) -> str:
        return f"ai3.Model(\n{self._graph}\n)"

    def __getstate__(self) -> dict[str, Any]:
        return {"graph": self._graph, "unsupported": self._unsupported}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set_graph(state["graph"], state["unsupported"])

    def _set_graph(self, graph: Graph, unsupported: str = "raise") -> None:
        self._graph = graph
        self._unsupported = unsupported
        # Nodes of one module share its weights.
        shared: dict[tuple[int, ...], _core.Weights] = {}
        self._weights = {
            node.name: shared.setdefault(
                tuple(map(id, node.weights)), _core.Weights.of(node.weights)
            )
            for node in graph.nodes
        }
        self._compiled: OrderedDict[Any, Compiled] = OrderedDict()
        self._lock = Lock()

    def _prepare(self, inputs: Sequence[Any]) -> tuple[Compiled, list[Any]]:
        if len(inputs) != len(self._graph.inputs):
            raise ValueError(f"the model takes {len(self._graph.inputs)} inputs, not {len(inputs)}")
        arrays.follow_torch_threads()
        readable = [arrays.readable(array) for array in inputs]
        key = (_core.specs_of(readable), _core.max_threads())
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = compile_graph(self._graph, key[0], self._weights, self._unsupported)
        with self._lock:
            self._compiled[key] = compiled
            self._compiled.move_to_end(key)
            while len(self._compiled) > self._kept_plans:
                self._compiled.popitem(last=False)
        return compiled, readable

    def _run(self, inputs: Sequence[Any], own: bool) -> list[Any]:
        compiled, readable = self._prepare(inputs)
        return compiled.executor(readable, own)
