"""What "default" and "metal" choose by: how long a convolution takes, in multiply-adds.

None of it was measured on Apple's hardware. A kernel's cost is that of the multiply-adds that its
tiles do, those beyond the image and the last channel too, over a share of the peak; at least that
of the memory that it moves; and that of its launches.
"""

from ai3.platforms.mps.geometry import Geometry

KERNEL = 0.35
"""The share of the peak that a register tile of 8 x 4 reaches, which loads 12 numbers from the
group's memory for 32 multiply-adds."""

NATIVE = 0.6
"""That of Metal Performance Shaders, for convolutions of one group."""

NATIVE_GROUPED = 0.05
"""And of more groups."""

BALANCE = 25.0
"""Multiply-adds in the time of an element from or to memory: 3.6 TFLOP/s and 4 bytes of 273 GB/s
are what an M4 Pro has."""

LAUNCH = 1e7
"""Multiply-adds in the time of a launch, some microseconds."""


def of(g: Geometry, macs: float, launches: int = 1) -> float:
    """Of a kernel of our own, whose tiles do so many multiply-adds."""
    return max(macs / KERNEL, BALANCE * _elements(g)) + launches * LAUNCH


def native(g: Geometry) -> float:
    share = NATIVE if g.groups == 1 else NATIVE_GROUPED
    return max(g.macs / share, BALANCE * _elements(g)) + LAUNCH


def _elements(g: Geometry) -> int:
    images = g.N * (g.IC * g.IH * g.IW + g.OC * g.OH * g.OW)
    return images + g.OC * g.terms
