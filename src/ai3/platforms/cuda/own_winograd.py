"""Winograd's convolution F(4x4, 3x3) as the platform's algorithms, `winograd` and `winograd f4`."""

from collections.abc import Sequence
from typing import Any

from ai3.platforms import epilogue
from ai3.platforms.cuda.launch import launch
from ai3.platforms.cuda.own import Own, shapes_of
from ai3.platforms.platform import Run
from ai3.problem import Problem

_TILES = 64
"""Of an image that a program of the transforms has."""
_WEIGHTS = 128
"""That a program of theirs has."""


class Winograd(Own):
    """F(4x4, 3x3)"""

    def __init__(self, platform: Any, name: str) -> None:
        super().__init__(platform)
        self.name = name

    def limit(self, p: Problem) -> str:
        sizes = {
            "kernel": ((p.KH, p.KW), (3, 3)),
            "stride": ((p.stride_h, p.stride_w), (1, 1)),
            "dilation": ((p.dilation_h, p.dilation_w), (1, 1)),
        }
        for what, (given, wanted) in sizes.items():
            if given != wanted:
                return f"the {what} is {given[0]}x{given[1]}, not {wanted[0]}x{wanted[1]}"
        if p.groups > 1:
            return "it has groups"
        if _turned(p) and max(p.pad_top, p.pad_left) > 2:
            return "the padding is more than 2"
        return ""

    def pads(self, p: Problem) -> bool:
        return p.padding_mode == "zeros"

    def stands_for(self, p: Problem) -> str:
        return "winograd f4"

    def workspace_bytes(self, p: Problem) -> int:
        rows, columns = _tiles(p)
        numbers = p.N * rows * columns * (p.IC + p.OC)
        if p.op == "conv2d_grad_weight":
            numbers += p.OC * p.IC
        return 36 * numbers * (8 if p.dtype == "float64" else 4)

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        if p.op == "conv2d_grad_weight":
            return _ByWeight(self._platform, p)
        return _Plan(self._platform, p, weights)


def _turned(p: Problem) -> bool:
    """Whether it is the gradient by the input, a convolution by the kernel turned round."""
    return p.op in ("conv2d_grad_input", "conv_transpose2d")


def _between(p: Problem) -> str:
    """The dtype between the transforms."""
    return "float64" if p.dtype == "float64" else "float32"


def _tiles(p: Problem) -> tuple[int, int]:
    """Rows and columns of tiles of the result."""
    height, width = (p.OH, p.OW) if not _turned(p) else (p.IH, p.IW)
    return -(-height // 4), -(-width // 4)


class _Plan:
    """Of the convolution, or of its gradient by the input, which is one by the kernel turned round
    with the channels exchanged."""

    def __init__(self, platform: Any, p: Problem, weights: Sequence[Any]) -> None:
        import torch

        from ai3.platforms.cuda import winograd

        self._weight, self._bias = (*weights, None)[:2]
        if p.op == "conv2d_grad_input":
            self._bias = None
        x, y, w = shapes_of(p)
        turned = _turned(p)
        rows, columns = _tiles(p)
        self._tiles = p.N * rows * columns
        if turned:
            self._c, self._k = p.OC, p.IC
            sizes, pads = (p.OH, p.OW), (2 - p.pad_top, 2 - p.pad_left)
            read, result = y, (p.IH, p.IW, *x)
            weight_strides = (w[1], w[0], w[2], w[3], 2, 2, -1)
        else:
            self._c, self._k = p.IC, p.OC
            sizes, pads = (p.IH, p.IW), (p.pad_top, p.pad_left)
            read, result = x, (p.OH, p.OW, *y)
            weight_strides = (*w, 0, 0, 1)
        blocks = -(-self._tiles // _TILES)
        read_numbers = (self._tiles, rows, columns, self._c, *sizes, *read, *pads)
        weigh_numbers = (self._k * self._c, self._c, *weight_strides)
        parameter = float(p.attributes.get("activation_parameter") or 0.0)
        give_numbers = (self._tiles, rows, columns, self._k, *result, parameter)
        self._residual = epilogue.has_residual(p)
        epilogues = {
            "has_bias": self._bias is not None,
            "has_residual": self._residual,
            "activation": epilogue.activation_of(p),
        }

        double, between = p.dtype == "float64", _between(p)
        self._between = getattr(torch, between)
        given, grid, block = [p.dtype, between], (blocks, self._c), {"BLOCK": _TILES}
        transform = winograd.image_transform
        self._read = launch(platform, transform, grid, given, read_numbers, block, 2)
        grid, pointers = (blocks, self._k), [between, *[p.dtype] * 3]
        transform, chosen = winograd.result_transform, block | epilogues
        self._give = launch(platform, transform, grid, pointers, give_numbers, chosen, 2, double)
        count, transform = weigh_numbers[0], winograd.weight_transform
        grid_of_weights, chosen = (-(-count // _WEIGHTS),), {"BLOCK": _WEIGHTS}
        self._weigh = launch(platform, transform, grid_of_weights, given, weigh_numbers, chosen)
        shape = (36, self._k, self._c)
        self._packed = self._weight.new_empty(shape, dtype=self._between)
        self.refresh()

    def refresh(self) -> None:
        self._weigh(self._weight, self._packed)

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        import torch

        memory = workspace.view(self._between)
        images = memory[: 36 * self._c * self._tiles].view(36, self._c, self._tiles)
        products = memory[36 * self._c * self._tiles :].view(36, self._k, self._tiles)
        bias, first = self._bias, inputs[0]
        self._read(first, images)
        torch.bmm(self._packed, images, out=products)
        self._give(
            *(products, first if bias is None else bias),
            *(inputs[1] if self._residual else first, output),
        )


class _ByWeight:
    """The gradient by the weight: what is bilinear in images and weights has the transposed
    transforms in it, dW = G^T [(A dY A^T) (B^T X B)] G, the products summed over all tiles."""

    def __init__(self, platform: Any, p: Problem) -> None:
        import torch

        from ai3.platforms.cuda import winograd

        self._p, between = p, _between(p)
        self._between = getattr(torch, between)
        x, y, w = shapes_of(p)
        rows, columns = _tiles(p)
        self._tiles = p.N * rows * columns
        blocks, given, block = -(-self._tiles // _TILES), [p.dtype, between], {"BLOCK": _TILES}
        tiled = (self._tiles, rows, columns)
        numbers: tuple[int, ...] = (*tiled, p.IC, p.IH, p.IW, *x, p.pad_top, p.pad_left)
        transform = winograd.image_transform
        self._read = launch(platform, transform, (blocks, p.IC), given, numbers, block, 2)
        numbers, transform = (*tiled, p.OC, p.OH, p.OW, *y), winograd.gradient_transform
        self._meet = launch(platform, transform, (blocks, p.OC), given, numbers, block, 2)
        count = p.OC * p.IC
        numbers, chosen = (count, p.IC, *w), {"BLOCK": _WEIGHTS}
        grid, transform = (-(-count // _WEIGHTS),), winograd.weight_gradient
        self._give = launch(platform, transform, grid, given[::-1], numbers, chosen)

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        import torch

        p, tiles = self._p, self._tiles
        memory = workspace.view(self._between)
        sizes = [36 * p.IC * tiles, 36 * p.OC * tiles, 36 * p.OC * p.IC]
        images, gradients, products = memory.split(sizes)
        self._read(inputs[0], images)
        self._meet(inputs[1], gradients)
        torch.bmm(
            gradients.view(36, p.OC, tiles),
            images.view(36, p.IC, tiles).transpose(1, 2),
            out=products.view(36, p.OC, p.IC),
        )
        self._give(products, output)
