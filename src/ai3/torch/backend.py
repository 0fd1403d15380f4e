"""`torch.compile(network, backend="ai3")`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ai3.torch import operators
from ai3.torch.layer import Config
from ai3.torch.swap import swap_backend

_CONVOLUTIONS = (torch.conv2d, nn.functional.conv2d)


def compile_graph(
    graph: fx.GraphModule,
    inputs: Sequence[Any],
    options: dict[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """What torch's compiler calls with a network's graph.

    In inference the whole graph is converted, as `ai3.swap_backend` does, and converted again when
    its weights have changed. Where gradients are wanted its convolutions are swapped, as
    `ai3.swap_conv2d` does. `options` are `swap_backend`'s `algos` and `unsupported`.
    """
    options = dict(options or {})
    algos, unsupported = options.pop("algos", None), options.pop("unsupported", "raise")
    if options:
        raise ValueError(
            f"the options of backend 'ai3' are 'algos' and 'unsupported', not {', '.join(options)}"
        )
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _with_gradients(graph, (algos or {}).get("conv2d", "default"))
    return _Inference(graph, inputs, algos, unsupported)


class _Inference:
    """The graph as a Model; the parameters among its inputs are the model's weights."""

    def __init__(
        self, graph: fx.GraphModule, inputs: Sequence[Any], algos: Any, unsupported: str
    ) -> None:
        self._graph, self._algos, self._unsupported = graph, algos, unsupported
        placeholders = graph.graph.find_nodes(op="placeholder")
        self._weights = [i for i, node in enumerate(placeholders) if _is_weight(node, inputs[i])]
        self._fed = [
            i
            for i, node in enumerate(placeholders)
            if i not in self._weights and (isinstance(inputs[i], Tensor) or node.users)
        ]
        self._model: Any = None
        self._state: Any = None

    def __call__(self, *inputs: Any) -> Any:
        weights, fed = [inputs[i] for i in self._weights], [inputs[i] for i in self._fed]
        state = [(w.data_ptr(), None if w.is_inference() else w._version) for w in weights]
        if self._model is None or state != self._state:
            self._model, self._state = self._convert(weights, fed), state
        result = self._model(*fed)
        return result if isinstance(result, list | tuple) else (result,)

    def _convert(self, weights: Sequence[Tensor], fed: Sequence[Any]) -> Any:
        bound = fx.GraphModule(self._graph, fx.Graph())
        known: dict[fx.Node, fx.Node] = {}
        position = 0
        for node in self._graph.graph.nodes:
            if node.op == "placeholder":
                if position in self._weights:
                    name = f"weight_{position}"
                    weight = weights[self._weights.index(position)]
                    bound.register_buffer(name, weight.detach())
                    known[node] = bound.graph.get_attr(name)
                elif position in self._fed:
                    known[node] = bound.graph.node_copy(node, known.__getitem__)
                position += 1
            else:
                known[node] = bound.graph.node_copy(node, known.__getitem__)
        bound.recompile()
        sample = fed if fed and all(isinstance(value, Tensor) for value in fed) else None
        return swap_backend(bound, self._algos, sample, None, self._unsupported)


def _is_weight(node: fx.Node, value: Any) -> bool:
    """Whether an input is a parameter or buffer of the network, which torch's compiler lifts."""
    if isinstance(value, nn.Parameter):
        return True
    name = getattr(getattr(node, "_dynamo_source", None), "name", "")
    return isinstance(value, Tensor) and "_buffers" in (name() if callable(name) else name)


def _with_gradients(graph: fx.GraphModule, algorithm: Any) -> Callable[..., Any]:
    """The graph with ai3's operator, which has derivatives, in the place of torch's."""
    if not isinstance(algorithm, str):
        raise ValueError(
            "where gradients are wanted, backend 'ai3' takes the name of one algorithm for "
            f"conv2d, not {type(algorithm).__name__}: swap_conv2d takes any selector"
        )

    def conv2d(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        dilation = _pair(dilation)
        if padding == "same":
            totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            (top, left), (height, width) = (t // 2 for t in totals), totals
            border = (top, height - top, left, width - left)
        else:
            vertical, horizontal = (0, 0) if padding == "valid" else _pair(padding)
            border = (vertical, vertical, horizontal, horizontal)
        algorithms = (algorithm, "default", "default")
        config: Config = (_pair(stride), border, dilation, groups, "zeros", None, *algorithms)
        return operators.conv2d(input, weight, bias, config)

    swapped = fx.GraphModule(graph, fx.Graph())
    swapped.graph.output(swapped.graph.graph_copy(graph.graph, {}))
    for node in swapped.graph.nodes:
        if node.target in _CONVOLUTIONS:
            node.target = conv2d
    swapped.recompile()
    return swapped.forward


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
