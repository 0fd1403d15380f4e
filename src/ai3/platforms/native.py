"""torch's own functions as algorithms, which a platform may have under a name that it gives. They
import torch when they are planned."""

from collections.abc import Callable, Sequence
from typing import Any

from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem


class Native(Algorithm):
    """What torch itself runs for an operation."""

    layouts = frozenset({"channels_last"})
    allocates = True

    def __init__(self, name: str, cost: float) -> None:
        self.name, self._cost = name, cost

    def cost(self, problem: Problem) -> float:
        return self._cost

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return _PLANS[problem.op](problem, *weights)


def native(name: str, cost: float) -> dict[str, list[Algorithm]]:
    """One for each operation that modules are swapped for, and for the gradients. `cost` is what
    stands in rankings: a large one makes it the last choice."""
    return {op: [Native(name, cost)] for op in _PLANS}


Geometry = tuple[list[int], list[int], list[int]]


def geometry(problem: Problem) -> Geometry:
    """Stride, padding and dilation of a convolution whose borders are alike."""
    p = problem
    return [p.stride_h, p.stride_w], [p.pad_top, p.pad_left], [p.dilation_h, p.dilation_w]


def _conv2d(problem: Problem, weight: Any, bias: Any = None) -> Run:
    from torch.nn import functional

    where, groups = geometry(problem), problem.groups
    return lambda inputs, *_: functional.conv2d(inputs[0], weight, bias, *where, groups)


def _conv_transpose2d(problem: Problem, weight: Any, bias: Any = None) -> Run:
    from torch.nn import functional

    stride, padding, dilation = geometry(problem)
    added = problem.attributes.get("output_padding", 0)
    more = (problem.groups, dilation)
    return lambda inputs, *_: functional.conv_transpose2d(
        inputs[0], weight, bias, stride, padding, added, *more
    )


def _backward(problem: Problem) -> Callable[..., Any]:
    """Of the output's gradient, input and weight and which gradients are wanted."""
    import torch

    where = (*geometry(problem), False, [0, 0], problem.groups)

    def run(grad: Any, input: Any, weight: Any, wanted: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(grad, input, weight, None, *where, wanted)

    return run


def _grad_input(problem: Problem, weight: Any, bias: Any = None) -> Run:
    run, shape = _backward(problem), problem.output
    return lambda inputs, *_: run(
        inputs[0], inputs[0].new_empty(()).expand(shape), weight, [True, False, False]
    )[0]


def _grad_weight(problem: Problem) -> Run:
    run, shape = _backward(problem), problem.output

    def by(inputs: Sequence[Any], *_: Any) -> Any:
        x, grad = inputs
        return run(grad, x, x.new_empty(()).expand(shape), [False, True, False])[1]

    return by


def _linear(problem: Problem, weight: Any, bias: Any = None) -> Run:
    from torch.nn import functional

    return lambda inputs, *_: functional.linear(inputs[0], weight, bias)


_PLANS: dict[str, Callable[..., Run]] = {
    "conv2d": _conv2d,
    "conv2d_grad_input": _grad_input,
    "conv2d_grad_weight": _grad_weight,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
}
