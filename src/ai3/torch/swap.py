"""The swapping functions for torch networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ai3 import _core
from ai3.errors import UnsupportedAlgorithmError
from ai3.graph import Graph
from ai3.graph.compile import choose, conv2d_attempt, infer
from ai3.graph.fold_batch_norm import fold_batch_norm
from ai3.graph.graph import CONSTANT, FOREIGN
from ai3.graph.specialize import specialize
from ai3.graph.weights import WeightStore
from ai3.model import Model
from ai3.selector import (
    AlgorithmicSelector,
    Candidate,
    check_algorithm,
    check_operations,
    needs_order,
    needs_shapes,
    select,
)
from ai3.torch import conv2d
from ai3.torch.capture import capture
from ai3.torch.trace import Trace

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


def swap_conv2d(
    module: nn.Module,
    algos: AlgorithmicSelector | None,
    sample_input_shape: Sequence[int] | None,
    unsupported: str,
) -> None:
    _check_unsupported(unsupported, ["conv2d"])
    candidates = _convolutions(module, algos, sample_input_shape)
    chosen = select("conv2d", algos, candidates)
    refusals = []
    for i, (candidate, algorithm) in enumerate(zip(candidates, chosen, strict=True)):
        reason = _conv2d_refusal(candidate, algorithm)
        if reason and unsupported != "raise":
            chosen[i] = algorithm = unsupported
            reason = _conv2d_refusal(candidate, algorithm)
        if reason:
            refusals.append((candidate.name, algorithm, reason))
    if refusals:
        raise UnsupportedAlgorithmError(refusals)
    for candidate, algorithm in zip(candidates, chosen, strict=True):
        conv2d.swap(candidate.module, algorithm, candidate.name)


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
    captured = capture(Trace(module), dtype, unsupported)
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
            if node.op == op:
                called = captured.modules.get(node.name)
                key = node.name if called is None else id(called)
                groups.setdefault(key, []).append(node.name)
                candidate = Candidate(node.label, called, shapes.get(node.name))
                candidates.setdefault(key, candidate)
        names = select(op, selector, list(candidates.values()))
        for group, name in zip(groups.values(), names, strict=True):
            chosen.update(dict.fromkeys(group, name))
    graph = fold_batch_norm(graph.with_algorithms(chosen))
    return _checked(graph, sample_input_shape, unsupported)


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


def _convolutions(
    module: nn.Module, algos: AlgorithmicSelector | None, sample_shape: Sequence[int] | None
) -> list[Candidate]:
    """The convolutions to swap: in the order of a forward pass where the selector depends on it."""
    if needs_order(algos) or (needs_shapes(algos) and sample_shape is not None):
        trace = Trace(module)
        shapes = {} if sample_shape is None else trace.input_shapes(sample_shape)
        nodes = [n for n in trace.met("conv2d") if _is_swappable(trace.module(n))]
        return [Candidate(trace.name(n), trace.module(n), shapes.get(n.name)) for n in nodes]
    return [Candidate(name, m) for name, m in module.named_modules() if _is_swappable(m)]


def _is_swappable(module: nn.Module) -> bool:
    return type(module) in (nn.Conv2d, conv2d.Conv2d)


def _conv2d_refusal(candidate: Candidate, algorithm: str) -> str:
    """Why the algorithm cannot do the convolution, as far as it can be known before it runs."""
    module = candidate.module
    weight = module.weight
    if weight.device.type != "cpu":
        return f"its weights are on {weight.device}, not in CPU memory"
    if weight.dtype not in _DTYPES:
        return f"its weights are {str(weight.dtype).removeprefix('torch.')}, not float32 or float64"
    weights = _core.Weights.of([weight.detach(), _detached(module.bias)], copy=False)
    attributes = {
        "stride": module.stride,
        "padding": conv2d.border(module),
        "dilation": module.dilation,
        "groups": module.groups,
        "padding_mode": module.padding_mode,
    }
    dtype, shape = _DTYPES[weight.dtype], candidate.input_shape
    if shape is None:
        problem = conv2d_attempt(tuple(weight.shape), dtype, attributes, weights)
    else:
        problem = _core.problem("conv2d", [_core.Spec(dtype, shape)], weights, attributes)
    return problem.refusal(algorithm)


def _detached(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach()


def _check_unsupported(name: str, ops: Any) -> None:
    if name == "raise":
        return
    for op in ops:
        check_algorithm(op, name, " for unsupported=")
