"""Swapping modules of a torch network in place, listing them, putting them back."""

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from ai3 import _core
from ai3 import plan as plans
from ai3.errors import (
    PlanError,
    SampleError,
    SelectionError,
    UnsupportedAlgorithmError,
    unknown_name,
)
from ai3.platforms import why_not_on_cpu
from ai3.platforms.task import Task
from ai3.selector import (
    CONVOLUTIONS,
    AlgorithmicSelector,
    Candidate,
    Choice,
    Conv2dAlgorithms,
    check_algorithm,
    needs_order,
    needs_shapes,
    reason,
    select,
)
from ai3.torch import modules
from ai3.torch.modules import KINDS, Swapped
from ai3.torch.sample import samples_of, told

_ORIGINAL = "_ai3_original"
"""What a module of the user's own type carries: the original, the algorithms, and why."""

SwapWith = Callable[[Any, Any], nn.Module]


class SwappedModule(NamedTuple):
    """One module of a network; `algorithm` is None where it was left alone, `why` says what the
    reason is."""

    name: str
    algorithm: str | None
    why: str
    grad_input: str | None = None
    grad_weight: str | None = None


def swap(
    module: nn.Module,
    algos: Mapping[str, AlgorithmicSelector | None],
    sample_input_shape: Sequence[int] | None,
    unsupported: str,
    swap_with: SwapWith | None = None,
    memory: int | None = None,
) -> None:
    _check(algos, unsupported)
    _refuse_lazy(module, algos)
    swaps, refusals = [], []
    found = _candidates(module, algos, sample_input_shape)
    check_memory(memory, (c.module for of_op in found.values() for c in of_op))
    for op, candidates in found.items():
        selector, kind = algos[op], KINDS[op]
        for i, choice in enumerate(select(op, selector, candidates)):
            candidate, why = candidates[i], reason(selector, candidates[i], i)
            taken, refused = choice, _refusal(kind, candidate, choice, memory)
            if refused and unsupported != "raise":
                why = f"instead of '{refused[0]}', which cannot do it: {refused[1]}"
                taken, refused = unsupported, _refusal(kind, candidate, unsupported, memory)
            if refused:
                refusals.append((candidate.name, *refused))
            swaps.append((kind, candidate, taken, choice, why))
    if refusals:
        raise UnsupportedAlgorithmError(refusals)
    if swap_with is not None:
        _replace(module, swaps, swap_with)
        return
    for kind, candidate, taken, _, why in swaps:
        modules.swap(candidate.module, kind, taken, candidate.name, why, memory)


def restore(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if _ORIGINAL in child.__dict__:
                parent._modules[name] = child.__dict__[_ORIGINAL][0]
    unswap(module)


def unswap(module: nn.Module) -> None:
    """Put back what `swap` changed the class of."""
    for layer in module.modules():
        if isinstance(layer, Swapped):
            modules.unswap(layer)


def selector_of(module: nn.Module, plan: "plans.Plan | str | PathLike[str]") -> dict[str, Choice]:
    """What a plan has for the convolutions of images of a network. Raises PlanError."""
    chosen, kind = plans.taken(plan).modules(), KINDS["conv2d"]
    known = [c.name for c in _candidates(module, {"conv2d": None}, None)["conv2d"]]
    for name in chosen:
        if name not in known and not _is_other(module, name):
            raise PlanError(f"the network has no convolution {name!r}, which the plan has")
    for name in known:
        if name not in chosen:
            raise PlanError(f"the plan has nothing for {name!r}, a {kind.kind} of the network")
    return {name: chosen[name] for name in known}


def _is_other(module: nn.Module, name: str) -> bool:
    """Whether there is a module of that name that is no convolution to swap: one of rows."""
    found = dict(module.named_modules()).get(name)
    return found is not None and not isinstance(found, nn.Conv2d)


def freeze(module: nn.Module, frozen: bool) -> None:
    for layer in module.modules():
        if isinstance(layer, Swapped):
            modules.freeze(layer, frozen)


def swapped(module: nn.Module) -> list[SwappedModule]:
    touched = [layer for layer in module.modules() if isinstance(layer, Swapped)]
    kinds = {"conv2d": KINDS["conv2d"]} | {layer.kind: KINDS[layer.kind] for layer in touched}
    found = []
    for name, layer in module.named_modules():
        if isinstance(layer, Swapped):
            state = layer.__dict__
            algorithms = (state.get("grad_input"), state.get("grad_weight"))
            found.append(SwappedModule(name, layer.algorithm, state.get("_why", ""), *algorithms))
        elif _ORIGINAL in layer.__dict__:
            _, algorithms, why = layer.__dict__[_ORIGINAL]
            found.append(SwappedModule(name, *(algorithms[0], why, *algorithms[1:])))
        elif why := _why_not(layer, kinds.values()):
            found.append(SwappedModule(name, None, why))
    return found


def _why_not(module: nn.Module, kinds: Collection[type[Swapped]]) -> str:
    """Why a module is not swapped; empty where it is of none of the kinds."""
    if why := next(filter(None, (modules.left_alone(module, kind) for kind in kinds)), ""):
        return why
    kind = modules.kind_of(module)
    return "it was not chosen" if kind is not None and kind in kinds else ""


def _check(algos: Any, unsupported: str) -> None:
    if not isinstance(algos, Mapping):
        raise TypeError(
            f"algos maps a kind of module to a selector, as in {{'conv2d': 'direct'}}; "
            f"{type(algos).__name__} is no mapping"
        )
    for op in algos:
        if op not in KINDS:
            raise unknown_name("kind of module to swap", op, KINDS)
        if unsupported != "raise":
            check_algorithm(op, unsupported, " for unsupported=")


def check_memory(memory: Any, found: Iterable[nn.Module]) -> None:
    """Refuse what is no limit of workspaces, or where these modules have none that it limits.
    Raises ValueError."""
    if memory is None:
        return
    if not isinstance(memory, int) or isinstance(memory, bool) or memory < 0:
        raise ValueError(f"memory is a number of bytes, not {memory!r}")
    if not any(map(_is_on_device, found)):
        raise ValueError(
            "memory bounds the workspaces of modules on a device, and the network has none there: "
            "for what a model takes in CPU memory see tune(..., memory=)"
        )


def _is_on_device(module: nn.Module) -> bool:
    return any(w.device.type not in ("cpu", "meta") for w in module.parameters())


def _refuse_lazy(module: nn.Module, kinds: Iterable[str]) -> None:
    lazy = [
        (name, "any", modules.left_alone(layer, KINDS[op]))
        for name, layer in module.named_modules()
        for op in kinds
        if isinstance(layer, KINDS[op].original) and is_lazy(layer.weight)  # type: ignore[arg-type]
    ]
    if lazy:
        raise UnsupportedAlgorithmError(lazy)


def _candidates(
    module: nn.Module,
    algos: Mapping[str, AlgorithmicSelector | None],
    sample_shape: Sequence[int] | None,
) -> dict[str, list[Candidate]]:
    """The modules of each kind: in the order of a forward pass where a selector depends on it."""
    names: dict[nn.Module, str] = {}
    found: dict[str, list[Candidate]] = {op: [] for op in algos}
    for name, layer in module.named_modules():
        kind = modules.kind_of(layer)
        if kind is not None and kind.kind in algos and not modules.left_alone(layer, kind):
            names[layer] = name
            found[kind.kind].append(Candidate(name, layer))
    ordered = any(needs_order(selector) for selector in algos.values())
    wanted = ordered or any(map(needs_shapes, algos.values()))
    if sample_shape is not None and (wanted or any(map(_is_on_device, names))):
        met = shapes_met(module, sample_shape, names.values())
        known = {c.name: c for candidates in found.values() for c in candidates}
        return {
            op: [
                Candidate(name, known[name].module, shape)
                for name, shape in met.items()
                if known[name] in found[op]
            ]
            for op in found
        }
    if ordered:
        try:
            order = _traced(module, names)
        except Exception as error:
            warnings.warn(
                f"the order in which {type(module).__name__} calls its modules cannot be traced "
                f"({error}); the algorithms go to them in the order in which they are registered: "
                "give sample_input_shape to have them go by a forward pass",
                stacklevel=5,
            )
        else:
            return {
                op: sorted(
                    (c for c in candidates if c.module in order), key=lambda c: order[c.module]
                )
                for op, candidates in found.items()
            }
    return found


def _traced(module: nn.Module, names: Mapping[nn.Module, str]) -> dict[nn.Module, int]:
    """The positions of the modules in the order in which torch.fx meets them."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            leaf = m in names or isinstance(m, Swapped)
            return leaf or super().is_leaf_module(m, module_qualified_name)

    root = nn.Sequential(module) if module in names else module
    graph = Tracer().trace(root)
    called = [root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
    return {layer: i for i, layer in reversed([*enumerate(called)]) if layer in names}


def convolutions_met(
    module: nn.Module, shape: Sequence[Any], choice: Conv2dAlgorithms
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The convolutions of images that can be swapped, with their names, in the order of
    `shapes_met`; and by the fields of `choice` what each has to compute, gradients if asked."""
    kind = KINDS["conv2d"]
    named = {
        name: layer
        for name, layer in module.named_modules()
        if modules.kind_of(layer) is kind and not modules.left_alone(layer, kind)
    }
    for name, met in shapes_met(module, shape, list(named)).items():
        problems = kind.problems(named[name], choice, met)
        pairs = zip(fields(Conv2dAlgorithms), problems, strict=False)
        yield name, named[name], {field.name: problem for field, (_, problem) in pairs}


def shapes_met(
    module: nn.Module, shape: Sequence[Any], names: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """Names of the modules in the order of their first calls, with their inputs' shapes, as
    one forward pass of a copy meets them: of fake tensors or, where values matter, of real ones."""
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

    wanted = set(names)
    parameter = next(module.parameters(), None)
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
    device = None if parameter is None else parameter.device

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
            samples = samples_of(shape)
            network(*(make(s.shape, dtype=s.dtype or dtype, device=device) for s in samples))
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


def _refusal(
    kind: type[Swapped], candidate: Candidate, choice: Choice, memory: int | None
) -> tuple[str, str] | None:
    """Which of the chosen algorithms cannot do the module and why, as far as it can be known before
    it runs."""
    module, first = candidate.module, choice if isinstance(choice, str) else choice.forward
    weight, bias = module.weight, module.bias
    if weight.dtype not in modules.DTYPES:
        dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in modules.DTYPES)
        of = str(weight.dtype).removeprefix("torch.")
        return first, f"its weights are {of}, not one of {dtypes}"
    if bias is not None and bias.dtype is not weight.dtype:
        names = [str(t.dtype).removeprefix("torch.") for t in (weight, bias)]
        return first, f"its weights are {names[0]} but its bias is {names[1]}"
    for algorithm, asked in kind.problems(module, choice, candidate.input_shape, memory):
        if isinstance(asked, _core.Problem) and (refused := why_not_on_cpu(asked.op, algorithm)):
            return algorithm, refused
        if (algorithm != "default" or isinstance(asked, Task)) and (
            refused := asked.refusal(algorithm)
        ):
            return algorithm, refused
    return None


def _replace(module: nn.Module, swaps: Sequence[Any], swap_with: SwapWith) -> None:
    """Put modules of the user's own type in the place of the candidates."""
    made: dict[nn.Module, nn.Module] = {}
    for kind, candidate, taken, choice, why in swaps:
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
        new.__dict__[_ORIGINAL] = (original, _names(kind, taken), why)
        made[original] = new
    for parent, name, child in list(_children(module)):
        if child in made:
            parent._modules[name] = made[child]


def _names(kind: type[Swapped], choice: Choice) -> tuple[str, ...]:
    if isinstance(choice, str) and kind.kind not in CONVOLUTIONS:
        return (choice,)
    chosen = choice if isinstance(choice, Conv2dAlgorithms) else Conv2dAlgorithms(choice)
    return (chosen.forward, chosen.grad_input, chosen.grad_weight)


def _children(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is not None:
                yield parent, name, child
