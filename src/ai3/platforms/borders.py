"""Borders of images that an algorithm does not make: torch makes them before it runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ai3.platforms.platform import Run
from ai3.problem import Problem

Pads = tuple[int, int, int, int]
"""Rows and columns that come before and after: top, bottom, left, right."""


def pads_of(problem: Problem) -> Pads:
    return (problem.pad_top, problem.pad_bottom, problem.pad_left, problem.pad_right)


def has_borders(problem: Problem) -> bool:
    """Whether padding is of other things than zeros, or differs from side to side."""
    if problem.op not in ("conv2d", "conv2d_grad_input", "conv2d_grad_weight"):
        return False
    top, bottom, left, right = pads_of(problem)
    return (top, left) != (bottom, right) or (problem.padding_mode != "zeros" and any((top, left)))


def padded_size(problem: Problem) -> tuple[int, int]:
    top, bottom, left, right = pads_of(problem)
    return (problem.IH + top + bottom, problem.IW + left + right)


def put(x: Tensor, pads: Pads, mode: str) -> Tensor:
    """Images with their borders."""
    top, bottom, left, right = pads
    return pad(x, (left, right, top, bottom), "constant" if mode == "zeros" else mode)


def take(grad: Tensor, size: tuple[int, int], pads: Pads, mode: str) -> Tensor:
    """The gradient by images of a size of that by the images with their borders."""
    if mode == "zeros":
        top, _, left, _ = pads
        return grad[..., top : top + size[0], left : left + size[1]]
    with torch.enable_grad():
        images = grad.new_zeros((*grad.shape[:-2], *size)).requires_grad_()
        (found,) = torch.autograd.grad(put(images, pads, mode), images, grad)
    return found


def around(run: Run, problem: Problem, memory: torch.memory_format) -> Run:
    """What does the problem by a run of that without borders, of images in this format."""
    pads, mode, size = pads_of(problem), problem.padding_mode, (problem.IH, problem.IW)
    whole = padded_size(problem)

    def forward(inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
        images = put(inputs[0], pads, mode).contiguous(memory_format=memory)
        return run([images, *inputs[1:]], output, workspace)

    def grad_input(inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
        if output is None:
            return take(run(inputs, None, workspace), size, pads, mode)
        shape = (*output.shape[:-2], *whole)
        grad = torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=memory)
        run(inputs, grad, workspace)
        return output.copy_(take(grad, size, pads, mode))

    return grad_input if problem.op == "conv2d_grad_input" else forward
