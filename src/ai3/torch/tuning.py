"""Tuning torch networks, for `swap_backend` and for `swap_conv2d`."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from ai3 import _core, arrays
from ai3.errors import SampleError, UnsupportedCallableError, UntraceableError
from ai3.plan import MODULES, Plan, PlannedNode, PlannedPart, here
from ai3.platforms import platform_of
from ai3.selector import Conv2dAlgorithms
from ai3.torch import device_tuning
from ai3.torch.layer import kernel_of
from ai3.torch.modules import KINDS
from ai3.torch.swap import swap, swap_backend
from ai3.torch.swap_modules import convolutions_met
from ai3.tuning import choose, inside, measure, work
from ai3.tuning.tuned import Tuned

_ANY = Conv2dAlgorithms("direct", "direct", "direct")

_Problems: TypeAlias = dict[str, dict[str, list[work.Contender]]]
"""By the names of modules and by fields what may compute each."""


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
    parameter = next(net.parameters(), None)
    if parameter is not None and platform_of(parameter.device.type) is not None:
        if budgets.any:
            raise ValueError(
                f"the network is on {parameter.device}, and budgets are for networks in CPU "
                "memory: swap_conv2d(..., memory=) bounds workspaces there"
            )
        return device_tuning.tune(session, net, tensors, gradients)
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
    forward = {name: of["forward"] for name, of in problems.items() if of.get("forward")}
    if any(not session.is_known(of) for of in forward.values()):
        session.measure([_Swapped(net, inputs, forward)], "in place", 1.0 - 0.5 * gradients)
    size = sum(t.numel() * t.element_size() for t in net.parameters())
    apart = {
        of[0].key: of
        for of_module in problems.values()
        for field, of in of_module.items()
        if field != "forward" and len(of) > 1 and not session.is_known(of)
    }
    for i, of in enumerate(apart.values()):
        what = f"gradients, {i + 1} of {len(apart)}"
        session.measure([measure.Alone(of, size)], what, 1 / (len(apart) - i))
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


def _problems(net: nn.Module, inputs: Sequence[torch.Tensor], gradients: bool) -> _Problems:
    """Of each convolution of images, by its name, what may compute it forward and back."""
    kind = KINDS["conv2d"]
    found: _Problems = {}
    choice = _ANY if gradients else Conv2dAlgorithms("direct")
    for name, module, problems in convolutions_met(net, inputs, choice):
        attributes = kind.attributes(module)
        weights = tuple(
            None if t is None else _array(t) for t in (kernel_of(module.weight), module.bias)
        )
        of_module: dict[str, list[work.Contender]] = {}
        for field, problem in problems.items():
            if not isinstance(problem, _core.Problem):  # on a device
                continue
            own = dict(attributes)
            held: tuple[Any, ...] = weights
            if field == "grad_input":
                own["input_size"] = tuple(problem.output.shape[-2:])
            elif field == "grad_weight":
                own["kernel_size"] = tuple(problem.output.shape[-2:])
                held = ()
            of_module[field] = work.contenders(problem, held, own, False)
        found[name] = of_module
    return found


def _resolved(problems: _Problems, by_estimates: bool) -> dict[str, Conv2dAlgorithms]:
    """What "default" comes to."""
    before = _core.estimates_only(by_estimates)
    try:
        return {
            name: Conv2dAlgorithms(
                **{
                    field: of[0].problem()[0].resolve("default")
                    for field, of in of_module.items()
                    if of
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
        sides[name] = partial(_infer, _swapped(net, selector), inputs)
        sides[name]()
    medians, _ = session.compare(sides, 2.0)
    return chosen if medians["tuned"] <= medians["untuned"] else untuned


class _Swapped:
    """A network whose convolutions are swapped in place, each of which is timed where it runs."""

    def __init__(
        self,
        net: nn.Module,
        inputs: Sequence[torch.Tensor],
        contenders: Mapping[str, Sequence[work.Contender]],
    ) -> None:
        self.contenders = {of[0].key: of for of in contenders.values()}
        self._net, self._inputs = net, inputs
        self._keys = {name: of[0].key for name, of in contenders.items()}
        self._by = lru_cache(inside.KEPT)(self._timed)

    def run(self, algorithms: Mapping[str, str]) -> dict[str, float]:
        network, taken = self._by(*algorithms.values())
        _infer(network, self._inputs)
        taken.clear()
        _infer(network, self._inputs)
        return {key: sum(of) / len(of) for key, of in taken.items()}

    def _timed(self, *names: str) -> tuple[nn.Module, dict[str, list[float]]]:
        """By these algorithms, in the order of `contenders`; and what fills with the seconds of
        each problem in a run."""
        algorithms = dict(zip(self.contenders, names, strict=True))
        made = _swapped(
            self._net,
            {name: Conv2dAlgorithms(algorithms[key]) for name, key in self._keys.items()},
        )
        taken: dict[str, list[float]] = {}
        started: list[float] = []

        def before(*_: Any) -> None:
            started.append(time.perf_counter())

        for name, key in self._keys.items():

            def after(*_: Any, key: str = key) -> None:
                taken.setdefault(key, []).append(time.perf_counter() - started.pop())

            module = made.get_submodule(name)
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
        return made, taken


def _swapped(net: nn.Module, selector: Mapping[str, Conv2dAlgorithms]) -> nn.Module:
    """A copy for inference, of the same tensors."""
    tensors = [*net.parameters(), *net.buffers()]
    own = copy.deepcopy(net, {id(tensor): tensor for tensor in tensors}).eval()
    swap(own, {"conv2d": selector}, None, "raise")
    return own


@torch.inference_mode()
def _infer(net: nn.Module, inputs: Sequence[torch.Tensor]) -> object:
    return net(*inputs)


def _array(tensor: torch.Tensor) -> "np.ndarray[Any, Any]":
    found: np.ndarray[Any, Any] = tensor.detach().float().contiguous().numpy()
    return found
