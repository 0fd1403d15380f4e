"""Swapping the convolutions of a torch network in place, listing them, putting them back."""

import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from ai3 import _core
from ai3.errors import SampleError, SelectionError, UnsupportedAlgorithmError
from ai3.graph.compile import conv2d_attempt
from ai3.selector import (
    AlgorithmicSelector,
    Candidate,
    Conv2dAlgorithms,
    check_algorithm,
    needs_order,
    needs_shapes,
    reason,
    select,
)
from ai3.torch import conv2d
from ai3.torch.sample import samples_of, told

_DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "float32",
    torch.float16: "float32",
}
"""Of weights: what is computed with."""

_ORIGINAL = "_ai3_original"
"""What a module of the user's own type carries: the original, the algorithms, and why."""

SwapWith = Callable[[nn.Conv2d, Any], nn.Module]


class Swapped(NamedTuple):
    """One convolution of a network; `algorithm` is None where it was left alone, `why` says what
    the reason is."""

    name: str
    algorithm: str | None
    why: str
    grad_input: str | None = None
    grad_weight: str | None = None


def swap_conv2d(
    module: nn.Module,
    algos: AlgorithmicSelector | None,
    sample_input_shape: Sequence[int] | None,
    unsupported: str,
    swap_with: SwapWith | None = None,
) -> None:
    if unsupported != "raise":
        check_algorithm("conv2d", unsupported, " for unsupported=")
    _refuse_lazy(module)
    candidates = _convolutions(module, algos, sample_input_shape)
    swaps, refusals = [], []
    for i, choice in enumerate(select("conv2d", algos, candidates)):
        candidate, why = candidates[i], reason(algos, candidates[i], i)
        algorithms = choice if isinstance(choice, Conv2dAlgorithms) else Conv2dAlgorithms(choice)
        refused = _refusal(candidate, algorithms)
        if refused and unsupported != "raise":
            why = f"instead of '{refused[0]}', which cannot do it: {refused[1]}"
            algorithms = Conv2dAlgorithms(unsupported)
            refused = _refusal(candidate, algorithms)
        if refused:
            refusals.append((candidate.name, *refused))
        swaps.append((candidate, algorithms, choice, why))
    if refusals:
        raise UnsupportedAlgorithmError(refusals)
    if swap_with is not None:
        _replace(module, swaps, swap_with)
        return
    for candidate, algorithms, _, why in swaps:
        conv2d.swap(candidate.module, algorithms, candidate.name, why)


def restore(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if _ORIGINAL in child.__dict__:
                parent._modules[name] = child.__dict__[_ORIGINAL][0]
    for layer in module.modules():
        if isinstance(layer, conv2d.Conv2d):
            conv2d.unswap(layer)


def freeze(module: nn.Module, frozen: bool) -> None:
    for layer in module.modules():
        if isinstance(layer, conv2d.Conv2d):
            conv2d.freeze(layer, frozen)


def swapped(module: nn.Module) -> list[Swapped]:
    found = []
    for name, layer in module.named_modules():
        if isinstance(layer, conv2d.Conv2d):
            state = layer.__dict__
            why = state.get("_why", "")
            algorithms = (state["grad_input"], state["grad_weight"])
            found.append(Swapped(name, state["algorithm"], why, *algorithms))
        elif _ORIGINAL in layer.__dict__:
            _, algorithms, why = layer.__dict__[_ORIGINAL]
            found.append(Swapped(name, *(algorithms[0], why, *algorithms[1:])))
        elif why := left_alone(layer):
            found.append(Swapped(name, None, why))
        elif conv2d.is_conv2d(layer):
            found.append(Swapped(name, None, "it was not chosen"))
    return found


def left_alone(module: nn.Module) -> str:
    """Why a convolution cannot be swapped, whatever the algorithm; empty where it can, or is
    none."""
    quantized = sys.modules.get("torch.ao.nn.quantized")
    if quantized is not None and isinstance(module, quantized.Conv2d):
        return "it is quantised"
    if not isinstance(module, nn.Conv2d):
        return ""
    if not conv2d.is_conv2d(module):
        return f"its class {type(module).__qualname__} has a forward of its own"
    if is_lazy(module.weight):
        return "it is lazy: run the network once, then its weights have shapes"
    if module.weight.device.type != "cpu":
        return f"its weights are on {module.weight.device}, not in CPU memory"
    return ""


def _refuse_lazy(module: nn.Module) -> None:
    lazy = [
        (name, "any", left_alone(layer))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.LazyConv2d) and is_lazy(layer.weight)
    ]
    if lazy:
        raise UnsupportedAlgorithmError(lazy)


def _convolutions(
    module: nn.Module, algos: AlgorithmicSelector | None, sample_shape: Sequence[int] | None
) -> list[Candidate]:
    """The convolutions to swap: in the order of a forward pass where the selector depends on it."""
    names = {
        layer: name
        for name, layer in module.named_modules()
        if conv2d.is_conv2d(layer) and not left_alone(layer)
    }
    if sample_shape is not None and (needs_order(algos) or needs_shapes(algos)):
        met = _run(module, sample_shape, names.values())
        layers = {name: layer for layer, name in names.items()}
        return [Candidate(name, layers[name], shape) for name, shape in met.items()]
    if needs_order(algos):
        try:
            order = _traced(module, names)
        except Exception as error:
            warnings.warn(
                f"the order in which {type(module).__name__} calls its convolutions cannot be "
                f"traced ({error}); the algorithms go to them in the order in which they are "
                "registered: give sample_input_shape to have them go by a forward pass",
                stacklevel=5,
            )
        else:
            return [Candidate(names[layer], layer) for layer in order]
    return [Candidate(name, layer) for layer, name in names.items()]


def _traced(module: nn.Module, names: Mapping[nn.Module, str]) -> list[nn.Module]:
    """The convolutions in the order in which torch.fx meets them."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return m in names or super().is_leaf_module(m, module_qualified_name)

    root = nn.Sequential(module) if module in names else module
    graph = Tracer().trace(root)
    called = [root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
    return list(dict.fromkeys(layer for layer in called if layer in names))


def _run(module: nn.Module, shape: Sequence[int], names: Any) -> dict[str, tuple[int, ...]]:
    """Names of the convolutions in the order of their first calls, with their inputs' shapes, as
    one forward pass of a copy meets them: of fake tensors or, where values matter, of real ones."""
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

    wanted = set(names)
    parameter = next(module.parameters(), None)
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype

    def record(network: nn.Module, make: Callable[..., torch.Tensor]) -> Any:
        met: dict[str, tuple[int, ...]] = {}

        def hook(name: str) -> Callable[..., None]:
            def note(_: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
                met.setdefault(name, tuple(inputs[0].shape))

            return note

        for name, layer in network.named_modules():
            if name in wanted:
                layer.register_forward_pre_hook(hook(name))
        with torch.no_grad():
            network(*(make(s.shape, dtype=s.dtype or dtype) for s in samples_of(shape)))
        return met

    try:
        fake = FakeTensorMode()
        with FakeCopyMode(fake):
            network = copy.deepcopy(module)
        with fake:
            return record(network, torch.empty)
    except Exception:
        pass
    try:
        return record(copy.deepcopy(module), torch.zeros)
    except Exception as error:
        raise SampleError(told(shape), error) from error


def _refusal(candidate: Candidate, algorithms: Conv2dAlgorithms) -> tuple[str, str] | None:
    """Which of the algorithms cannot do the convolution and why, as far as it can be known before
    it runs."""
    module, shape = candidate.module, candidate.input_shape
    weight, bias = module.weight.detach(), module.bias
    if weight.dtype not in _DTYPES:
        dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        of = str(weight.dtype).removeprefix("torch.")
        return algorithms.forward, f"its weights are {of}, not one of {dtypes}"
    if bias is not None and bias.dtype is not weight.dtype:
        names = [str(t.dtype).removeprefix("torch.") for t in (weight, bias)]
        return algorithms.forward, f"its weights are {names[0]} but its bias is {names[1]}"
    dtype = _DTYPES[weight.dtype]
    arrays = [t if t is None else t.detach().to(getattr(torch, dtype)) for t in (weight, bias)]
    weights = _core.Weights.of(arrays, copy=False)
    attributes = conv2d.attributes(module)
    if shape is None:
        forward = conv2d_attempt(tuple(weight.shape), dtype, attributes, weights)
    else:
        forward = _core.problem("conv2d", [_core.Spec(dtype, shape)], weights, attributes)
    input, grad = forward.inputs[0], forward.output

    def by_input() -> _core.Problem:
        size = {"input_size": tuple(input.shape[-2:])}
        return _core.problem("conv2d_grad_input", [grad], weights, attributes | size)

    def by_weight() -> _core.Problem:
        size = {"kernel_size": tuple(weight.shape[2:])}
        return _core.problem("conv2d_grad_weight", [input, grad], None, attributes | size)

    for algorithm, make in (
        (algorithms.forward, lambda: forward),
        (algorithms.grad_input, by_input),
        (algorithms.grad_weight, by_weight),
    ):
        if algorithm != "default" and (refused := make().refusal(algorithm)):
            return algorithm, refused
    return None


def _replace(module: nn.Module, swaps: Sequence[Any], swap_with: SwapWith) -> None:
    """Put modules of the user's own type in the place of the convolutions."""
    made: dict[nn.Module, nn.Module] = {}
    for candidate, algorithms, choice, why in swaps:
        original = candidate.module
        if original is module:
            raise SelectionError(
                "swap_with cannot put another module in the place of the one that is given: give "
                "the network that holds it"
            )
        new = swap_with(original, choice)
        if not isinstance(new, nn.Module):
            raise TypeError(
                f"swap_with must make a torch.nn.Module, but of {candidate.name} it made "
                f"{type(new).__name__}"
            )
        names = (algorithms.forward, algorithms.grad_input, algorithms.grad_weight)
        new.__dict__[_ORIGINAL] = (original, names, why)
        made[original] = new
    for parent, name, child in list(_children(module)):
        if child in made:
            parent._modules[name] = made[child]


def _children(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is not None:
                yield parent, name, child
