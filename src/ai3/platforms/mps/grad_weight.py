"""The gradient of a convolution by its weight, as a product of matrices."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from ai3.platforms.mps import costs, shaders
from ai3.platforms.mps.geometry import Geometry, geometry, refusal, values
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

GROUPS = 256
"""So many threadgroups are wanted: what has fewer tiles splits its sums."""

LEAST_PIXELS = 64 * 16
"""Of a split."""


class GradWeight(Algorithm):
    name = "implicit gemm"
    layouts = frozenset({"channels_last"})

    def refusal(self, problem: Problem) -> str:
        g = geometry(problem)
        if _splits(g) * g.OC * g.terms >= 1 << 31:
            return "its sums are more than 2^31 - 1 elements"
        return refusal(problem)

    def pads(self, problem: Problem) -> bool:
        return True

    def workspace_bytes(self, problem: Problem) -> int:
        g = geometry(problem)
        return 4 * _splits(g) * g.OC * g.terms

    def cost(self, problem: Problem) -> float:
        g = geometry(problem)
        rows, columns = ceil(g.oc / shaders.ROWS), ceil(g.terms / shaders.COLUMNS)
        macs = g.groups * rows * columns * shaders.ROWS * shaders.COLUMNS * g.pixels
        return costs.of(g, 2 * macs, 2)

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        import torch

        g = geometry(problem)
        splits = _splits(g)
        kernel = shaders.library(problem.dtype).grad_weight
        tiles = ceil(g.terms / shaders.COLUMNS) * shaders.THREADS
        grid = (tiles, ceil(g.oc / shaders.ROWS), g.groups * splits)
        fields = {**values(problem, g), "splits": splits}
        told: dict[Any, Any] = {}

        def run(inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
            x, grad = inputs
            if x.device not in told:
                told[x.device] = shaders.described(fields, x.device)
            partial = workspace.view(torch.float32)
            size = (shaders.THREADS, 1, 1)
            kernel(x, grad, partial, told[x.device], threads=grid, group_size=size)
            # (groups, KH, KW, IC / groups, OC / groups)
            sums = partial.view(splits, g.groups, g.KH, g.KW, g.ic, g.oc).sum(0)
            return output.copy_(sums.permute(0, 4, 3, 1, 2).reshape(output.shape))

        return run


def _splits(g: Geometry) -> int:
    tiles = g.groups * ceil(g.oc / shaders.ROWS) * ceil(g.terms / shaders.COLUMNS)
    return max(1, min(ceil(GROUPS / tiles), g.pixels // LEAST_PIXELS))
