"""Winograd's algorithm: transforms of weights, input and output, and the product between them."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from ai3.platforms.mps import costs, shaders
from ai3.platforms.mps.geometry import Geometry, dummies, geometry, packed, refusal, values
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

TRANSFORM_THREADS = (64, 1, 1)

MOST_WORKSPACE = 256 << 20
"""Bytes: more images than fit are done in turns."""


class Cut(NamedTuple):
    """Tiles of each image, images of a turn, and the floats of a turn's transformed input and of
    its sums."""

    tiles_h: int
    tiles_w: int
    images: int
    inputs: int
    sums: int


class Winograd(Algorithm):
    """F(m x m, 3 x 3): as named or, where no size is, the cheaper one."""

    layouts = frozenset({"channels_last"})

    def __init__(self, name: str, size: int | None = None) -> None:
        self.name, self._size = name, size

    def refusal(self, problem: Problem) -> str:
        p = problem
        if (p.KH, p.KW) != (3, 3):
            return f"it is for kernels of 3x3, not {p.KH}x{p.KW}"
        if (p.stride_h, p.stride_w, p.dilation_h, p.dilation_w) != (1, 1, 1, 1):
            return "it is for stride and dilation of 1"
        if max(cut(geometry(problem), self.size(problem))[3:]) >= 1 << 31:
            return "one image's transformed tiles are more than 2^31 - 1 elements"
        return refusal(problem)

    def fuses(self, problem: Problem) -> bool:
        return True

    def pads(self, problem: Problem) -> bool:
        return problem.op == "conv2d" or bool(problem.padding_mode == "zeros")

    def stands_for(self, problem: Problem) -> str:
        return f"winograd f{self.size(problem)}"

    def size(self, problem: Problem) -> int:
        """Of the output's tiles."""
        g = geometry(problem)
        return self._size or min((4, 2), key=lambda m: _cost(g, m))

    def cost(self, problem: Problem) -> float:
        return _cost(geometry(problem), self.size(problem))

    def workspace_bytes(self, problem: Problem) -> int:
        found = cut(geometry(problem), self.size(problem))
        return 4 * (found.inputs + found.sums)

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return _Transformed(self.size(problem), problem, *weights)


class _Transformed:
    def __init__(self, m: int, problem: Problem, weight: Any, bias: Any = None) -> None:
        self._problem, self._weight, self._bias = problem, weight, bias
        self._geometry = g = geometry(problem)
        self._cut = found = cut(g, m)
        library = shaders.library(problem.dtype)
        self._filter, self._input, self._output = (
            getattr(library, f"winograd_{part}_{m}") for part in ("filter", "input", "output")
        )
        self._product, self._elements = library.winograd_product, (m + 2) ** 2
        tiles = {"tiles_h": found.tiles_h, "tiles_w": found.tiles_w}
        plain = {**values(problem, g), **tiles}
        self._turns = []
        for first in range(0, g.N, found.images):
            images = min(found.images, g.N - first)
            told = shaders.described({**plain, "N": images}, weight.device)
            self._turns.append((first, images, told))
        import torch

        transformed = self._elements * g.groups * g.ic * g.oc
        self._u = torch.empty(transformed, dtype=torch.float32, device=weight.device)
        self.refresh()

    def refresh(self) -> None:
        g = self._geometry
        told = shaders.described(values(self._problem, g), self._u.device)
        threads = (g.groups * g.ic * g.oc, 1, 1)
        weights = packed(self._weight, self._problem, g)
        self._filter(weights, self._u, told, threads=threads, group_size=TRANSFORM_THREADS)

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
        import torch

        g, found = self._geometry, self._cut
        v, m = workspace.view(torch.float32).split([found.inputs, found.sums])
        for first, images, told in self._turns:
            turn = slice(first, first + images)
            x, *rest = (each[turn] for each in inputs)
            bias, addend = dummies([x, *rest], self._bias)
            tiles = images * found.tiles_h * found.tiles_w
            size = {"group_size": TRANSFORM_THREADS}
            self._input(x, v, told, threads=(tiles, g.IC, 1), **size)
            groups = (ceil(tiles / shaders.COLUMNS), ceil(g.oc / shaders.ROWS))
            self._product(
                *(self._u, v, m, told),
                threads=(groups[0] * shaders.THREADS, groups[1], self._elements * g.groups),
                group_size=(shaders.THREADS, 1, 1),
            )
            self._output(m, bias, addend, output[turn], told, threads=(tiles, g.OC, 1), **size)
        return output


def cut(g: Geometry, m: int) -> Cut:
    tiles_h, tiles_w = ceil(g.OH / m), ceil(g.OW / m)
    elements = (m + 2) ** 2 * tiles_h * tiles_w
    most = MOST_WORKSPACE // max(1, 4 * elements * (g.IC + g.OC))
    images = max(1, min(g.N, most))
    return Cut(tiles_h, tiles_w, images, images * elements * g.IC, images * elements * g.OC)


def _cost(g: Geometry, m: int) -> float:
    found, elements = cut(g, m), (m + 2) ** 2
    tiles = g.N * found.tiles_h * found.tiles_w
    padded = ceil(tiles / shaders.COLUMNS) * shaders.COLUMNS
    channels = g.groups * ceil(g.oc / shaders.ROWS) * shaders.ROWS
    macs = elements * padded * channels * g.ic
    # Written and read again: the transformed input and the sums.
    moved = 2 * elements * tiles * (g.IC + g.OC)
    product = costs.of(g, macs, launches=3 * ceil(g.N / found.images))
    return product + costs.BALANCE * moved
