"""A problem as the kernels are told of it, and the weights as they read them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai3.platforms.mps import shaders
from ai3.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

Strides = tuple[int, int, int, int]

TRANSPOSED = ("conv2d_grad_input", "conv_transpose2d")
"""The operations whose inputs are of the size of the output of the convolution that is named."""


_SAME = (
    *("N", "IC", "IH", "IW", "OC", "OH", "OW", "KH", "KW", "groups"),
    *("stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left"),
)
"""What a `Convolution` calls as a `Geometry` does."""


@dataclass(frozen=True)
class Geometry:
    """A convolution from (N, IC, IH, IW) to (N, OC, OH, OW): the problem's or, of one that is
    transposed, that whose kernel is `flipped` or, where `scattered`, the transposed one itself."""

    N: int
    IC: int
    IH: int
    IW: int
    OC: int
    OH: int
    OW: int
    KH: int
    KW: int
    groups: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    padding_mode: str
    flipped: bool = False
    scattered: bool = False

    @property
    def ic(self) -> int:
        """Of a group."""
        return self.IC // self.groups

    @property
    def oc(self) -> int:
        return self.OC // self.groups

    @property
    def terms(self) -> int:
        """That one sum adds up."""
        return self.KH * self.KW * self.ic

    @property
    def pixels(self) -> int:
        return self.N * self.OH * self.OW

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.pixels * self.OC * self.terms


def geometry(problem: Problem, scattered: bool = False) -> Geometry:
    """`scattered`: whether one that is transposed stays so, which strides need."""
    p = problem
    sizes = (p.IC, p.IH, p.IW), (p.OC, p.OH, p.OW)
    top, left, flipped = p.pad_top, p.pad_left, False
    if is_transposed := p.op in TRANSPOSED:
        sizes, flipped = sizes[::-1], not scattered
        if flipped:
            top, left = p.dilation_h * (p.KH - 1) - top, p.dilation_w * (p.KW - 1) - left
    return Geometry(
        p.N,
        *sizes[0],
        *sizes[1],
        *(p.KH, p.KW, p.groups),
        *(p.stride_h, p.stride_w, p.dilation_h, p.dilation_w),
        top,
        left,
        "zeros" if is_transposed else p.padding_mode,
        flipped,
        is_transposed and scattered,
    )


def values(problem: Problem, g: Geometry) -> dict[str, int]:
    """The fields of `Convolution` that every kernel reads."""
    from ai3.platforms.epilogue import activation_of, has_residual

    x = strides(problem.output_layout, g.IC, g.IH, g.IW)
    y = strides(problem.output_layout, g.OC, g.OH, g.OW)
    parameter = float(problem.attributes.get("activation_parameter") or 0.0)
    return {
        **{name: getattr(g, name) for name in _SAME},
        "padding_mode": shaders.code("PaddingMode", g.padding_mode),
        "transposed": int(g.scattered),
        **{f"x_{axis}": stride for axis, stride in zip("nchw", x, strict=True)},
        **{f"y_{axis}": stride for axis, stride in zip("nchw", y, strict=True)},
        **{f"addend_{axis}": stride for axis, stride in zip("nchw", y, strict=True)},
        "has_bias": int(bool(problem.has_bias)),
        "has_addend": int(has_residual(problem)),
        "activation": shaders.code("Activation", activation_of(problem)),
        "parameter": struct.unpack("=i", struct.pack("=f", parameter))[0],
    }


def strides(layout: str, channels: int, height: int, width: int) -> Strides:
    """Of images: elements between neighbours."""
    n = channels * height * width
    if layout == "channels_last":
        return (n, 1, width * channels, channels)
    return (n, height * width, width, 1)


def packed(weight: "Tensor", problem: Problem, g: Geometry) -> "Tensor":
    """Weights as the kernels read them: (groups, KH, KW, IC / groups, OC / groups)."""
    grouped = weight.reshape(g.groups, -1, *weight.shape[1:])
    if problem.op in TRANSPOSED:
        flipped = grouped.flip(3, 4) if g.flipped else grouped
        return flipped.permute(0, 3, 4, 1, 2).contiguous()
    return grouped.permute(0, 3, 4, 2, 1).contiguous()


def refusal(problem: Problem) -> str:
    """What no kernel can do."""
    if problem.dtype not in shaders.SCALARS:
        return f"its kernels are for {' and '.join(shaders.SCALARS)}, not {problem.dtype}"
    for shape in (*problem.inputs, problem.output):
        elements = 1
        for extent in shape:
            elements *= extent
        if elements >= 1 << 31:
            return f"its kernels count the elements of an array to 2^31 - 1, not {elements}"
    return ""


def dummies(inputs: Sequence[Any], bias: Any) -> tuple[Any, Any]:
    """Bias and addend; memory that is not read stands for what is not there."""
    x = inputs[0]
    return (x if bias is None else bias, inputs[1] if len(inputs) > 1 else x)
