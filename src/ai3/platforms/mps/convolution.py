"""The algorithms of one kernel: direct, smm, implicit gemm and implicit precomp gemm."""

from collections.abc import Sequence
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ai3.platforms.mps import costs, shaders
from ai3.platforms.mps.blocking import Blocking, blocking
from ai3.platforms.mps.geometry import (
    TRANSPOSED,
    Geometry,
    dummies,
    geometry,
    packed,
    refusal,
    values,
)
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

PATCH, STEP = shaders.constant("PATCH"), shaders.constant("STEP")

SMM_THREADS, SMM_PIXELS, SMM_PATCH = map(
    shaders.constant, ("SMM_THREADS", "SMM_PIXELS", "SMM_PATCH")
)

Launch = tuple[str, tuple[int, int, int], tuple[int, int, int]]
"""A kernel's name, the threads of its grid and those of a group."""


class Kernel(Algorithm):
    """What one launch of a kernel computes, bias, sum and activation included."""

    layouts = frozenset({"channels_last"})

    def refusal(self, problem: Problem) -> str:
        strided = (problem.stride_h, problem.stride_w) != (1, 1)
        if problem.op in TRANSPOSED and strided and not self.scatters:
            return "it transposes convolutions of stride 1 alone"
        return refusal(problem)

    scatters = False
    """Whether it can transpose a convolution that has strides."""

    def fuses(self, problem: Problem) -> bool:
        return True

    def pads(self, problem: Problem) -> bool:
        return problem.op == "conv2d" or bool(problem.padding_mode == "zeros")

    def geometry(self, problem: Problem) -> Geometry:
        return geometry(problem)

    def launch(self, g: Geometry) -> tuple[Launch, dict[str, int]]:
        """And the fields of `Convolution` that the kernel needs beside those that all do."""
        raise NotImplementedError

    def tables(self, g: Geometry) -> "list[Tensor]":
        """Further arguments of the kernel."""
        return []

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return _Launched(self, problem, *weights)


class _Launched:
    def __init__(self, kernel: Kernel, problem: Problem, weight: Any, bias: Any = None) -> None:
        self._geometry = g = kernel.geometry(problem)
        self._problem, self._weight, self._bias = problem, weight, bias
        (name, self._threads, self._size), more = kernel.launch(g)
        self._kernel = getattr(shaders.library(problem.dtype), name)
        self._values = shaders.described({**values(problem, g), **more}, weight.device)
        self._tables = [table.to(weight.device) for table in kernel.tables(g)]
        self._packed = packed(weight, problem, g)

    def refresh(self) -> None:
        self._packed.copy_(packed(self._weight, self._problem, self._geometry))

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
        given = (inputs[0], self._packed, *dummies(inputs, self._bias), output, self._values)
        self._kernel(*given, *self._tables, threads=self._threads, group_size=self._size)
        return output


class ImplicitGemm(Kernel):
    name = "implicit gemm"
    kernel = "implicit_gemm"
    scatters = True

    def geometry(self, problem: Problem) -> Geometry:
        return geometry(problem, scattered=(problem.stride_h, problem.stride_w) != (1, 1))

    def cost(self, problem: Problem) -> float:
        g = self.geometry(problem)
        pixels = ceil(g.pixels / shaders.COLUMNS) * shaders.COLUMNS
        macs = pixels * g.groups * ceil(g.oc / shaders.ROWS) * shaders.ROWS * g.terms
        return costs.of(g, macs * (1 + self.gathering))

    gathering = 0.8
    """What an element of x costs to gather, shared by the 64 channels that it serves, beside a
    multiply-add: mostly the divisions that find it."""

    def launch(self, g: Geometry) -> tuple[Launch, dict[str, int]]:
        tiles = ceil(g.pixels / shaders.COLUMNS)
        grid = (tiles * shaders.THREADS, ceil(g.oc / shaders.ROWS), g.groups)
        return (self.kernel, grid, (shaders.THREADS, 1, 1)), {}


class ImplicitPrecompGemm(ImplicitGemm):
    name = "implicit precomp gemm"
    kernel = "implicit_precomp_gemm"
    gathering = 0.4

    def tables(self, g: Geometry) -> "list[Tensor]":
        """(KH * KW * IC / groups, 3): a term's row and column from the pixel's first, its
        channel."""
        import torch

        h, w, c = torch.meshgrid(
            torch.arange(g.KH) * g.dilation_h,
            torch.arange(g.KW) * g.dilation_w,
            torch.arange(g.ic),
            indexing="ij",
        )
        return [torch.stack([h, w, c], -1).reshape(-1, 3).int()]


class Direct(Kernel):
    name = "direct"

    def cost(self, problem: Problem) -> float:
        g = self.geometry(problem)
        channels = g.groups * ceil(g.oc / shaders.ROWS) * shaders.ROWS
        return costs.of(g, g.N * channels * self._blocking(g).cost) if g.macs else inf

    def launch(self, g: Geometry) -> tuple[Launch, dict[str, int]]:
        cut = self._blocking(g)
        grid = (cut.tiles * shaders.THREADS, ceil(g.oc / shaders.ROWS), g.groups * g.N)
        return ("direct", grid, (shaders.THREADS, 1, 1)), cut.values()

    @staticmethod
    def _blocking(g: Geometry) -> Blocking:
        return blocking(g, shaders.COLUMNS, PATCH, STEP, shaders.ROWS)


class Smm(Kernel):
    name = "smm"

    def cost(self, problem: Problem) -> float:
        g = self.geometry(problem)
        block = self._block(g)
        channels = g.groups * ceil(g.oc / block) * block
        return costs.of(g, g.N * channels * self._blocking(g).cost) if g.macs else inf

    def launch(self, g: Geometry) -> tuple[Launch, dict[str, int]]:
        cut, block = self._blocking(g), self._block(g)
        grid = (cut.tiles * SMM_THREADS, g.groups * ceil(g.oc / block), g.N)
        name = "smm_narrow" if block == 1 else "smm"
        return (name, grid, (SMM_THREADS, 1, 1)), cut.values()

    @staticmethod
    def _block(g: Geometry) -> int:
        """The output channels that a threadgroup has."""
        return 1 if g.oc <= 2 else 8

    def _blocking(self, g: Geometry) -> Blocking:
        return blocking(g, SMM_PIXELS, SMM_PATCH, SMM_PATCH, self._block(g))
