"""The epilogues that an algorithm does not fuse: torch applies them after it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ai3.platforms.epilogue import activation_of, has_residual, program_of
from ai3.platforms.platform import Platform, Run
from ai3.problem import Problem

IN_PLACE: dict[str, Callable[[Tensor, float], Any]] = {
    "relu": lambda x, _: functional.relu_(x),
    "relu6": lambda x, _: functional.hardtanh_(x, 0.0, 6.0),
    "leaky_relu": lambda x, slope: functional.leaky_relu_(x, slope),
    "silu": lambda x, _: functional.silu(x, inplace=True),
    "hardswish": lambda x, _: functional.hardswish(x, inplace=True),
    "hardsigmoid": lambda x, _: functional.hardsigmoid(x, inplace=True),
    "sigmoid": lambda x, _: torch.sigmoid_(x),
    "tanh": lambda x, _: torch.tanh_(x),
    "gelu": lambda x, _: x.copy_(functional.gelu(x)),
    "gelu_tanh": lambda x, _: x.copy_(functional.gelu(x, approximate="tanh")),
    "elu": lambda x, alpha: functional.elu_(x, alpha),
}
"""By the core's name; the number is the activation's parameter, where it has one."""


def after(platform: Platform, run: Run, problem: Problem) -> Run:
    """What does the problem by a run of that without its epilogue."""
    added = has_residual(problem)
    activate = IN_PLACE.get(activation_of(problem))
    parameter = float(problem.attributes.get("activation_parameter") or 0.0)
    program = program_of(problem)

    def whole(inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
        made = run(inputs[:1], output, workspace)
        output = made if output is None else output
        if platform.elementwise(program, [output, *inputs[1:]], output) is not None:
            return output
        if added:
            output.add_(inputs[1])
        if activate is not None:
            activate(output, parameter)
        return output

    return whole
