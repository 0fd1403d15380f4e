"""What runs on the platform, by operation."""

from collections.abc import Mapping, Sequence
from typing import Any

from ai3.platforms.mps import costs
from ai3.platforms.mps.convolution import Direct, ImplicitGemm, ImplicitPrecompGemm, Smm
from ai3.platforms.mps.geometry import geometry
from ai3.platforms.mps.grad_weight import GradWeight
from ai3.platforms.mps.metal import Metal
from ai3.platforms.mps.winograd import Winograd
from ai3.platforms.native import Native, native
from ai3.platforms.platform import Algorithm
from ai3.problem import Problem


class _Native(Native):
    """torch's own."""

    def __init__(self) -> None:
        super().__init__("mps", 0.0)

    def cost(self, problem: Problem) -> float:
        return 0.0 if problem.op == "linear" else costs.native(geometry(problem))


def algorithms() -> Mapping[str, Sequence[Algorithm]]:
    found: dict[str, list[Algorithm]] = {op: [_Native()] for op in native("mps", 0.0)}
    for op in ("conv2d", "conv2d_grad_input", "conv_transpose2d"):
        kernels: list[Any] = [Direct(), Smm(), ImplicitGemm(), ImplicitPrecompGemm()]
        winograd = [Winograd("winograd"), Winograd("winograd f2", 2), Winograd("winograd f4", 4)]
        found[op] += [*kernels, *winograd, Metal([*kernels, winograd[0]])]
    grad_weight = GradWeight()
    found["conv2d_grad_weight"] += [grad_weight, Metal([grad_weight])]
    return found
