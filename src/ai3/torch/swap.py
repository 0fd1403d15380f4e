"""The swapping functions for torch networks."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ai3 import _core
from ai3.errors import (
    SampleError,
    UnsupportedAlgorithmError,
    UnsupportedCallableError,
    UntraceableError,
)
from ai3.graph import Graph
from ai3.graph.compile import choose, conv2d_attempt, infer
from ai3.graph.fold_affine import fold_affine
from ai3.graph.fuse_attention import fuse_attention
from ai3.graph.graph import CONSTANT, FOREIGN, PRECISIONS
from ai3.graph.specialize import REAL, specialize
from ai3.graph.weights import WeightStore
from ai3.model import Model
from ai3.platforms import platform_of
from ai3.selector import (
    AlgorithmicSelector,
    Candidate,
    check_algorithm,
    check_operations,
    select,
)
from ai3.torch.capture import Captured, capture, whole
from ai3.torch.device_executor import Place
from ai3.torch.device_model import DeviceModel
from ai3.torch.export import FREE, ExportTrace
from ai3.torch.modules import KINDS, Swapped
from ai3.torch.sample import samples_of, shapes_of, told
from ai3.torch.swap_modules import check_memory, freeze, restore, selector_of, swap, swapped, unswap
from ai3.torch.trace import Trace

__all__ = ["freeze", "restore", "selector_of", "swap", "swap_backend", "swapped"]


def swap_backend(
    module: nn.Module,
    algos: Mapping[str, AlgorithmicSelector] | None,
    sample_input_shape: Sequence[int] | None,
    dtype: Any,
    unsupported: str,
    precision: str = "float32",
    memory: int | None = None,
) -> Model:
    check_memory(memory, [module])
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 'float32' or 'bfloat16', not {precision!r}")
    algos = {} if algos is None else algos
    if not isinstance(algos, Mapping):
        raise TypeError(
            f"algos maps an operation to a selector, as in {{'conv2d': 'direct'}}; "
            f"{type(algos).__name__} is no mapping"
        )
    check_operations(algos)
    module = _unswapped(module)
    place = _place_of(module, dtype, precision, memory)
    if place is not None:
        # Its graph is found on the CPU, with the weights in what the core computes with.
        module = _on_cpu(module)
        dtype = torch.float64 if place.dtype is torch.float64 else torch.float32
    errors: list[Exception] = []
    # A network of bfloat16 has no single nodes of torch's: it is ai3's or torch's as a whole.
    whole_only = unsupported == FOREIGN and dtype is None and _has_bfloat16(module)
    for trace in _traces(module, sample_input_shape):
        try:
            captured = capture(trace(), dtype, "raise" if whole_only else unsupported)
            if precision != "float32":
                captured = replace(captured, graph=replace(captured.graph, precision=precision))
            return _selected(captured, algos, sample_input_shape, unsupported, place)
        except (UntraceableError, UnsupportedCallableError, SampleError) as error:
            errors.append(error)
    if unsupported == FOREIGN:
        return _as_it_is(module, algos, sample_input_shape, dtype, place)
    # Of what torch.fx's graph was refused for or, where it found none, torch.export's last.
    raise errors[-1] if isinstance(errors[0], UntraceableError) else errors[0]


def _has_bfloat16(module: nn.Module) -> bool:
    return any(weight.dtype is torch.bfloat16 for weight in module.parameters())


def _unswapped(module: nn.Module) -> nn.Module:
    """The network with the modules that were swapped in place as they were before: a copy with the
    same tensors, where there are any."""
    if not any(isinstance(layer, Swapped) for layer in module.modules()):
        return module
    tensors = [*module.parameters(), *module.buffers()]
    own = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    unswap(own)
    return own


def _as_it_is(
    module: nn.Module,
    algos: Mapping[str, AlgorithmicSelector],
    sample_shape: Sequence[Any] | None,
    dtype: Any,
    place: Place | None,
) -> Model:
    """The model in which torch runs the whole network, its modules of weights swapped."""
    in_place = {"conv2d": None} | {op: algos[op] for op in algos if op in KINDS}

    def change(own: nn.Module) -> None:
        swap(own, in_place, sample_shape, "raise")

    captured = whole(module, _inputs_of(module, sample_shape), dtype, change)
    others = {op: selector for op, selector in algos.items() if op not in KINDS}
    return _selected(captured, others, sample_shape, FOREIGN, place)


def _inputs_of(module: nn.Module, sample_shape: Sequence[Any] | None) -> int:
    """How many inputs the network takes, as far as its signature and the sample tell."""
    if sample_shape is not None and len(shapes := shapes_of(sample_shape)) > 1:
        return len(shapes)
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(p.kind in kinds and p.default is p.empty for p in parameters))


def _selected(
    captured: Captured,
    algos: Mapping[str, AlgorithmicSelector],
    sample_input_shape: Sequence[Any] | None,
    unsupported: str,
    place: Place | None,
) -> Model:
    """The model in which every node runs what the selectors choose for it."""
    graph = captured.graph
    if unsupported == FOREIGN:
        unsupported = "raise"
    ops = {node.op for node in graph.nodes} - {CONSTANT, FOREIGN}
    if place is None or not any(unsupported in place.platform.algorithms(op) for op in ops):
        _check_unsupported(unsupported, ops)
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
    if place is not None:
        return _on_device(graph, sample_input_shape, unsupported, place)
    return _checked(graph, sample_input_shape, unsupported)


def _on_cpu(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are in CPU memory."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        own = tensor.detach().cpu()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(own, tensor.requires_grad) if is_parameter else own
    return copy.deepcopy(module, memo)


def _place_of(module: nn.Module, dtype: Any, precision: str, memory: int | None) -> Place | None:
    """Where the network's weights are and what they are to be; None on the CPU. Raises
    ValueError."""
    tensors = [*module.parameters(), *module.buffers()]
    devices = list(dict.fromkeys(t.device for t in tensors if t.device.type != "meta"))
    if all(device.type == "cpu" for device in devices):
        return None
    if len(devices) > 1:
        names = " and ".join(map(str, devices))
        raise ValueError(f"the network's weights are on {names}: a model runs on one device")
    platform = platform_of(devices[0].type)
    if platform is None or (why := platform.missing()):
        reason = "nothing of ai3 runs there" if platform is None else why
        raise ValueError(f"the network's weights are on {devices[0]}, and {reason}")
    if precision != "float32":
        raise ValueError(
            f"precision={precision!r} is of networks on the CPU: on {devices[0]} convert the "
            "network, as by network.bfloat16()"
        )
    real = [t.dtype for t in tensors if t.is_floating_point()]
    own = torch.float32 if not real else real[0]
    wanted = own if dtype is None else getattr(torch, str(dtype).removeprefix("torch."))
    return Place(platform, devices[0], wanted, memory)


def _on_device(
    graph: Graph, sample_shape: Sequence[Any] | None, unsupported: str, place: Place
) -> Model:
    model = DeviceModel.on_device(graph, unsupported, place.device, place.dtype, place.memory)
    if sample_shape is not None:
        sample = [
            torch.zeros(
                spec.shape,
                dtype=place.dtype if spec.dtype in REAL else _dtype_of(spec),
                device=place.device,
            )
            for spec in _sample_specs(graph, sample_shape)
        ]
        try:
            model.prepare(*sample)
        except UnsupportedAlgorithmError:
            raise
        except Exception as error:
            raise SampleError(told(sample_shape), error) from error
    return model


def _traces(module: nn.Module, sample_shape: Sequence[Any] | None) -> Iterator[Callable[[], Trace]]:
    yield partial(Trace, module, sample_shape)
    if sample_shape is not None:
        for free in FREE:
            yield partial(ExportTrace, module, sample_shape, free)


def _specialized(graph: Graph, sample_shape: Sequence[Any] | None) -> Graph | None:
    """The graph for inputs of the sample's shape, where that is known and no node foreign. Raises
    SampleError."""
    if sample_shape is None or any(node.op == FOREIGN for node in graph.nodes):
        return None
    try:
        return specialize(graph, _sample_specs(graph, sample_shape), WeightStore(graph))
    except (TypeError, ValueError) as error:
        raise SampleError(told(sample_shape), error) from error


def _sample_specs(graph: Graph, sample_shape: Sequence[Any]) -> list[_core.Spec]:
    """What the inputs of a sample are; where nothing tells, what others are looked up by is
    integers."""
    dtypes = [w.dtype.name for node in graph.nodes for w in node.weights if w is not None]
    real = next((dtype for dtype in dtypes if dtype in REAL), "float32")
    if graph.narrow:
        real = "bfloat16"
    looked_up = {node.inputs[1] for node in graph.nodes if node.op in ("index_select", "gather")}
    for node in reversed(graph.nodes):
        if node.name in looked_up and node.op in ("reshape", "flatten", "slice", "permute"):
            looked_up.add(node.inputs[0])
    usual = {"real": real, "integer": "int64", "bool": "bool"}
    samples = samples_of(sample_shape)
    if len(samples) == 1:
        samples *= len(graph.inputs)
    if len(samples) != len(graph.inputs):
        raise ValueError(f"the network takes {len(graph.inputs)} inputs, not {len(samples)}")
    specs = []
    for name, sample in zip(graph.inputs, samples, strict=True):
        dtype = usual[graph.takes.get(name, "integer" if name in looked_up else "real")]
        if sample.dtype is not None and not sample.dtype.is_floating_point:
            dtype = str(sample.dtype).removeprefix("torch.")
        specs.append(_core.Spec(dtype, sample.shape))
    return specs


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
    if sample_shape is not None:
        specs = _sample_specs(graph, sample_shape)
        if known is None:
            sample = [torch.zeros(spec.shape, dtype=_dtype_of(spec)) for spec in specs]
        else:  # no element is read: any size in the memory of one
            sample = [torch.zeros((), dtype=_dtype_of(spec)).expand(spec.shape) for spec in specs]
        try:
            model.prepare(*sample)
        except Exception as error:
            raise SampleError(told(sample_shape), error) from error
    return model


def _dtype_of(spec: _core.Spec) -> torch.dtype:
    found: torch.dtype = getattr(torch, spec.dtype)
    return found


def _check_unsupported(name: str, ops: Any) -> None:
    if name == "raise":
        return
    for op in ops:
        check_algorithm(op, name, " for unsupported=")
