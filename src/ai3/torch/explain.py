"""Explains a torch network of which modules are swapped."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, fx, nn

from ai3 import _core
from ai3.explanation.alternatives import NARROW, Measured, Ran, Way, alternatives, stands_for
from ai3.explanation.exact import distance
from ai3.explanation.explanation import Explanation, Layer
from ai3.explanation.roofline import roofline
from ai3.machine import Watch
from ai3.torch import modules
from ai3.torch.modules import Swapped
from ai3.torch.modules.swapped import swapped_class


def explain(network: nn.Module, inputs: Sequence[Any], repeat: int, errors: bool) -> Explanation:
    swapped = {n: m for n, m in network.named_modules() if isinstance(m, Swapped)}
    if not swapped:
        raise ValueError(
            f"no module of this {type(network).__name__} is swapped: swap some with "
            "ai3.swap_conv2d(network), or convert it with ai3.swap_backend(network), first"
        )
    for name, module in swapped.items():
        weight: Any = module.weight
        if not weight.is_cpu:
            raise ValueError(
                f"{name or 'the module'} is on {weight.device}, and explain is of the CPU: move "
                "the network there, or see what torch.profiler shows"
            )
    with torch.inference_mode():
        watch = Watch()
        (calls, whole), state = watch(lambda: _timed(network, swapped, inputs, repeat))
        edges = _edges(network, swapped, list(calls))
        measured = Measured()
        layers = [
            _layer(name, swapped[name], calls[name], edges[name], errors, measured)
            for name in calls
        ]
        error = _error(network, inputs) if errors else None
    weights = {id(p): p.nbytes for p in network.parameters()}
    return Explanation(
        layers=tuple(layers),
        roofline=roofline(watch.state.threads, watch.state.name),
        ms=whole,
        error=error,
        weight_bytes=sum(weights.values()),
        state=state,
    )


class _Calls:
    """What hooks saw of a module: the first input and output, and the time of all calls of each run
    of the network, in ms."""

    def __init__(self) -> None:
        self.input: Tensor | None = None
        self.output: Tensor | None = None
        self.runs: list[float] = []
        self.started = 0.0

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        def before(_: nn.Module, inputs: Any) -> None:
            if self.input is None:
                self.input = inputs[0].detach().clone()
            self.started = perf_counter()

        def after(_: nn.Module, __: Any, output: Tensor) -> None:
            self.runs[-1] += 1e3 * (perf_counter() - self.started)
            if self.output is None:
                self.output = output.detach().clone()

        hooks = (module.register_forward_pre_hook(before), module.register_forward_hook(after))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def ms(self) -> float:
        return median(self.runs)


def _timed(
    network: nn.Module, swapped: dict[str, Swapped], inputs: Sequence[Any], repeat: int
) -> tuple[dict[str, _Calls], float]:
    """The calls of the modules, by name in the order in which they were first called, and the time
    of the whole network."""
    calls = {name: _Calls() for name in swapped}
    whole = []
    with ExitStack() as stack:
        for name, module in swapped.items():
            stack.enter_context(calls[name].watching(module))
        for run in range(max(1, repeat) + 1):
            for each in calls.values():
                each.runs.append(0.0)
            started = perf_counter()
            network(*inputs)
            whole.append(1e3 * (perf_counter() - started))
            if run == 0:  # in which weights are packed
                order = sorted(calls, key=lambda n: calls[n].started)
                whole.clear()
                for each in calls.values():
                    each.runs.clear()
    return {name: calls[name] for name in order if calls[name].input is not None}, median(whole)


def _layer(
    name: str,
    module: Any,
    calls: _Calls,
    inputs: tuple[str, ...],
    errors: bool,
    measured: Measured,
) -> Layer:
    input, output = calls.input, calls.output
    assert input is not None and output is not None
    kind = swapped_class(module)
    shape = tuple(input.shape)
    problem, weights = _problem(kind, module, shape)
    asked = module.algorithm
    algorithm = problem.resolve(asked)
    narrow = module.weight.dtype is torch.bfloat16
    dtype = str(output.dtype).removeprefix("torch.")
    packed, workspace = _memory(problem, weights, algorithm)
    moved = input.nbytes + output.nbytes + (packed or module.weight.nbytes)
    ran = Ran(problem, algorithm, calls.ms)
    why = module.__dict__.get("_why") or "which was chosen by its name"
    stands = f"{stands_for(asked, algorithm in measured.of(problem))} ({why})"
    return Layer(
        name=name or type(module).__name__,
        id=name,
        op=kind.kind,
        algorithm=algorithm,
        inputs=inputs,
        shape=tuple(output.shape),
        dtype=dtype,
        layout="dense",
        why=why if asked == algorithm else stands,
        why_dtype=_why_dtype(dtype, algorithm, narrow),
        ms=calls.ms,
        flops=_flops(kind, module, input, output),
        moved=moved,
        error=_own_error(module, input, output) if errors else None,
        packed_bytes=packed,
        workspace_bytes=workspace,
        output_bytes=output.nbytes,
        alternatives=alternatives(ran, problem, lambda name: [Way(problem)], measured, narrow),
    )


def _problem(
    kind: type[Swapped], module: Any, shape: tuple[int, ...]
) -> tuple[_core.Problem, _core.Weights]:
    dtype = modules.DTYPES[module.weight.dtype]
    own = [w if w is None else w.detach().to(getattr(torch, dtype)) for w in kind.tensors(module)]
    weights = _core.Weights.of(own, False)
    spec = _core.Spec(dtype, kind.image_shape(module, shape))
    return _core.problem(kind.layer.op, [spec], weights, kind.attributes(module)), weights


def _memory(problem: _core.Problem, weights: _core.Weights, algorithm: str) -> tuple[int, int]:
    """The bytes of packed weights and of workspace."""
    (spec,) = problem.inputs
    _core.probe(problem, algorithm, [torch.zeros(spec.bytes, dtype=torch.uint8)], [0])
    return weights.packed_bytes, problem.workspace_bytes(algorithm)


def _why_dtype(dtype: str, algorithm: str, narrow: bool) -> str:
    if narrow:
        return f"{dtype}: the module's weights are bfloat16"
    if algorithm.endswith(NARROW):
        return f"{dtype}, of products of bfloat16, as the algorithm's name says"
    return f"{dtype}: the module's weights are"


def _flops(kind: type[Swapped], module: Any, input: Tensor, output: Tensor) -> int:
    taps: int = module.weight[0].numel()
    return 2 * taps * (input if "transpose" in kind.kind else output).numel()


def _in_double(module: nn.Module) -> nn.Module:
    """torch's own module or network of the same weights, in float64."""
    own = copy.deepcopy(module)
    for layer in own.modules():
        if isinstance(layer, Swapped):
            modules.unswap(layer)
    return own.double()


def _own_error(module: Swapped, input: Tensor, output: Tensor) -> float | None:
    exact = _in_double(module).forward(input.double())  # without the user's hooks
    return distance(output.double().numpy(), exact.numpy())


def _error(network: nn.Module, inputs: Sequence[Any]) -> float | None:
    """Of the network's outputs, the largest; None where it does not run in float64."""
    given = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    try:
        exact = _tensors(_in_double(network)(*given))
    except (RuntimeError, TypeError, ValueError):
        return None
    actual = _tensors(network(*inputs))
    pairs = zip(actual, exact, strict=True)
    found = [distance(a.double().numpy(), e.numpy()) for a, e in pairs if a.is_floating_point()]
    return max((error for error in found if error is not None), default=None)


def _tensors(result: Any) -> list[Tensor]:
    from ai3 import arrays

    found: list[Tensor] = []
    arrays.each(result, found.append)
    return found


def _edges(
    network: nn.Module, swapped: dict[str, Swapped], order: list[str]
) -> dict[str, tuple[str, ...]]:
    """For each module those whose outputs reach its input with none of them between; where torch.fx
    cannot trace the network, the one that is called before it."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, Swapped) or super().is_leaf_module(m, module_qualified_name)

    try:
        graph = Tracer().trace(network)
    except Exception:
        return {name: tuple(order[max(0, i - 1) : i]) for i, name in enumerate(order)}
    reached: dict[fx.Node, tuple[str, ...]] = {}
    edges: dict[str, tuple[str, ...]] = dict.fromkeys(order, ())
    for node in graph.nodes:
        before = [name for each in node.all_input_nodes for name in reached[each]]
        unique = tuple(dict.fromkeys(before))
        if node.op == "call_module" and str(node.target) in swapped:
            name = str(node.target)
            edges[name] = tuple(dict.fromkeys((*edges.get(name, ()), *unique)))
            unique = (name,)
        reached[node] = unique
    return edges
