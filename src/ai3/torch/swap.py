"""The swapping functions for torch networks."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ai3 import _core
from ai3.errors import UntraceableError
from ai3.graph import Graph
from ai3.graph.compile import choose, conv2d_attempt, infer
from ai3.graph.fold_affine import fold_affine
from ai3.graph.fuse_attention import fuse_attention
from ai3.graph.graph import CONSTANT, FOREIGN
from ai3.graph.specialize import specialize
from ai3.graph.weights import WeightStore
from ai3.model import Model
from ai3.selector import (
    AlgorithmicSelector,
    Candidate,
    check_algorithm,
    check_operations,
    select,
)
from ai3.torch.capture import capture
from ai3.torch.export import ExportTrace
from ai3.torch.swap_conv2d import freeze, restore, swap_conv2d, swapped
from ai3.torch.trace import Trace

__all__ = ["freeze", "restore", "swap_backend", "swap_conv2d", "swapped"]


def swap_backend(
    module: nn.Module,
    algos: Mapping[str, AlgorithmicSelector] | None,
    sample_input_shape: Sequence[int] | None,
    dtype: Any,
    unsupported: str,
) -> Model:
    algos = {} if algos is None else algos
    if not isinstance(algos, Mapping):
        raise TypeError(
            f"algos maps an operation to a selector, as in {{'conv2d': 'direct'}}; "
            f"{type(algos).__name__} is no mapping"
        )
    check_operations(algos)
    keep_foreign = unsupported == FOREIGN
    captured = capture(_trace(module, sample_input_shape), dtype, unsupported)
    graph = captured.graph
    if keep_foreign:
        unsupported = "raise"
    _check_unsupported(unsupported, {node.op for node in graph.nodes} - {CONSTANT, FOREIGN})
    shapes = _input_shapes(graph, sample_input_shape)

    chosen: dict[str, str] = {}
    for op, selector in algos.items():
        # Calls of one module are one candidate; a function's call is one each.
        groups: dict[Any, list[str]] = {}
        candidates: dict[Any, Candidate] = {}
        for node in graph.nodes:
            if captured.kinds.get(node.name, node.op) == op:
                called = captured.modules.get(node.name)
                key = node.name if called is None else id(called)
                groups.setdefault(key, []).append(node.name)
                candidate = Candidate(node.label, called, shapes.get(node.name))
                candidates.setdefault(key, candidate)
        names = select(op, selector, list(candidates.values()))
        for group, name in zip(groups.values(), names, strict=True):
            # A model only infers: the algorithms of gradients mean nothing to it.
            forward = name if isinstance(name, str) else name.forward
            chosen.update(dict.fromkeys(group, forward))
    graph = fold_affine(fuse_attention(graph.with_algorithms(chosen)))
    return _checked(graph, sample_input_shape, unsupported)


def _trace(module: nn.Module, sample_shape: Sequence[int] | None) -> Trace:
    """By torch.fx or, where that fails and a shape is known, by torch.export."""
    try:
        return Trace(module)
    except UntraceableError:
        if sample_shape is None:
            raise
    return ExportTrace(module, sample_shape)


def _specialized(graph: Graph, sample_shape: Sequence[int] | None) -> Graph | None:
    """The graph for an input of the sample's shape, where that is known and no node foreign."""
    if sample_shape is None or any(node.op == FOREIGN for node in graph.nodes):
        return None
    dtypes = [w.dtype.name for node in graph.nodes for w in node.weights if w is not None]
    sample = _core.Spec(dtypes[0] if dtypes else "float32", tuple(sample_shape))
    try:
        return specialize(graph, [sample] * len(graph.inputs), WeightStore(graph))
    except ValueError as error:
        raise ValueError(
            f"an input of sample_input_shape {tuple(sample_shape)} does not go through the "
            f"network: {error}"
        ) from error


def _input_shapes(graph: Graph, sample_shape: Sequence[int] | None) -> dict[str, tuple[int, ...]]:
    """The shape of each node's first input."""
    known = _specialized(graph, sample_shape)
    if known is None:
        return {}
    return {n.name: known.specs[n.inputs[0]].shape for n in known.nodes if n.inputs}


def _checked(graph: Graph, sample_shape: Sequence[int] | None, unsupported: str) -> Model:
    """The model of a graph in which no algorithm is known to refuse its node."""
    model = Model.from_graph(graph, unsupported)
    known = _specialized(graph, sample_shape)
    if known is not None:
        problems = infer(known, WeightStore(graph))
    else:
        problems = {
            node.name: conv2d_attempt(
                w.shape, w.dtype.name, node.attributes, model.weights[node.name]
            )
            for node in graph.nodes
            if node.op == "conv2d" and (w := node.weights[0]) is not None
        }
    model.set_algorithms(choose(graph, problems, unsupported))
    return model


def _check_unsupported(name: str, ops: Any) -> None:
    if name == "raise":
        return
    for op in ops:
        check_algorithm(op, name, " for unsupported=")
