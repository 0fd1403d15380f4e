"""Tuning torch networks, for `swap_backend` and for `swap_conv2d`."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ai3 import _core, arrays
from ai3.errors import SampleError, UnsupportedCallableError, UntraceableError
from ai3.plan import MODULES, Plan, PlannedNode, PlannedPart, here
from ai3.selector import Conv2dAlgorithms
from ai3.torch import modules
from ai3.torch.layer import kernel_of
from ai3.torch.modules import KINDS
from ai3.torch.swap import swap, swap_backend
from ai3.torch.swap_modules import shapes_met
from ai3.tuning import choose, work
from ai3.tuning.tuned import Tuned

_ANY = Conv2dAlgorithms("direct", "direct", "direct")
_FIELDS = ("forward", "grad_input", "grad_weight")


def tune(
    session: "choose.Session",
    net: nn.Module,
    inputs: Sequence[Any],
    budgets: "choose.Budgets",
    gradients: bool,
    check: bool,
) -> Tuned:
    if not isinstance(net, nn.Module):
        raise TypeError(f"expected a torch network or an ai3.Model, not {type(net).__name__}")
    tensors = [arrays.to_torch(array) for array in inputs]
    tuned = Tuned(None)
    try:
        model = swap_backend(net, None, tensors, None, "raise")
    except (UntraceableError, UnsupportedCallableError) as error:
        if budgets.any:
            raise ValueError(
                f"budgets are for networks that swap_backend converts whole: {error}"
            ) from error
    except SampleError as error:
        raise ValueError(str(error)) from error
    else:
        tuned = session.model(model, inputs, budgets, check)
    return session.told(_in_place(session, net, tensors, tuned, budgets, gradients, check))


def _in_place(
    session: "choose.Session",
    net: nn.Module,
    inputs: Sequence[torch.Tensor],
    tuned: Tuned,
    budgets: "choose.Budgets",
    gradients: bool,
    check: bool,
) -> Tuned:
    """The choice with that for `swap_conv2d`: of what converts within budgets, its algorithms."""
    try:
        problems = _problems(net, inputs, gradients)
    except SampleError as error:
        raise ValueError(str(error)) from error
    works: dict[str, work.Work] = {}
    for of_module in problems.values():
        for each in of_module.values():
            if len(each.contenders) > 1:
                works.setdefault(each.contenders[0].key, each).nodes.append("")
    size = sum(t.numel() * t.element_size() for t in net.parameters())
    session.measure([*works.values()], size)
    chosen = _resolved(problems, by_estimates=False)
    if budgets.any and tuned.plan is not None:
        known = tuned.plan.modules()
        chosen = {
            name: replace(each, forward=known.get(name, each).forward)
            for name, each in chosen.items()
        }
    elif check and not gradients:
        untuned = _resolved(problems, by_estimates=True)
        chosen = _checked(session, net, inputs, chosen, untuned)
    return replace(tuned, modules=chosen, in_place=_plan_of(chosen))


def _plan_of(chosen: dict[str, Conv2dAlgorithms]) -> Plan:
    """What `swap_conv2d` then does, as a plan."""
    nodes = [
        PlannedNode(
            name,
            "conv2d",
            name,
            each.forward,
            (("float32", "dense"),),
            grad_input=each.grad_input,
            grad_weight=each.grad_weight,
        )
        for name, each in chosen.items()
    ]
    return Plan(MODULES, (PlannedPart((), tuple(nodes)),), here())


def _problems(
    net: nn.Module, inputs: Sequence[torch.Tensor], gradients: bool
) -> dict[str, dict[str, work.Work]]:
    """Of each convolution of images, by its name, what is to be computed forward and back."""
    kind = KINDS["conv2d"]
    found: dict[str, dict[str, work.Work]] = {}
    named = {
        name: layer
        for name, layer in net.named_modules()
        if modules.kind_of(layer) is kind and not modules.left_alone(layer, kind)
    }
    for name, shape in shapes_met(net, inputs, list(named)).items():
        module = named[name]
        choice = _ANY if gradients else Conv2dAlgorithms("direct")
        attributes = kind.attributes(module)
        weights = tuple(
            None if t is None else _array(t) for t in (kernel_of(module.weight), module.bias)
        )
        of_module: dict[str, work.Work] = {}
        for field, (_, problem) in zip(_FIELDS, kind.problems(module, choice, shape), strict=False):
            if not isinstance(problem, _core.Problem):  # on a device
                continue
            own = dict(attributes)
            held: tuple[Any, ...] = weights
            if field == "grad_input":
                own["input_size"] = tuple(problem.output.shape[-2:])
            elif field == "grad_weight":
                own["kernel_size"] = tuple(problem.output.shape[-2:])
                held = ()
            of_module[field] = work.of_problem(problem, held, own, False)
        found[name] = of_module
    return found


def _resolved(
    problems: dict[str, dict[str, work.Work]], by_estimates: bool
) -> dict[str, Conv2dAlgorithms]:
    """What "default" comes to."""
    before = _core.estimates_only(by_estimates)
    try:
        return {
            name: Conv2dAlgorithms(
                **{
                    field: each.contenders[0].problem()[0].resolve("default")
                    for field, each in of_module.items()
                    if each.contenders
                }
            )
            for name, of_module in problems.items()
        }
    finally:
        _core.estimates_only(before)


def _checked(
    session: "choose.Session",
    net: nn.Module,
    inputs: Sequence[torch.Tensor],
    chosen: dict[str, Conv2dAlgorithms],
    untuned: dict[str, Conv2dAlgorithms],
) -> dict[str, Conv2dAlgorithms]:
    """The algorithms by which the network, swapped, is not slower."""
    if chosen == untuned:
        return chosen
    sides: dict[str, Callable[[], object]] = {}
    for name, selector in {"untuned": untuned, "tuned": chosen}.items():
        tensors = [*net.parameters(), *net.buffers()]
        own = copy.deepcopy(net, {id(tensor): tensor for tensor in tensors}).eval()
        swap(own, {"conv2d": selector}, None, "raise")

        @torch.inference_mode()
        def call(own: nn.Module = own) -> object:
            return own(*inputs)

        call()
        sides[name] = call
    medians, _ = session.compare(sides, 2.0)
    return chosen if medians["tuned"] <= medians["untuned"] else untuned


def _array(tensor: torch.Tensor) -> "np.ndarray[Any, Any]":
    found: np.ndarray[Any, Any] = tensor.detach().float().contiguous().numpy()
    return found
