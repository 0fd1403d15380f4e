"""How the kernels that read patches of an image cut their work."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from ai3.platforms.mps.geometry import Geometry

BRING = 4.0
"""What an element of a patch costs to bring, in multiply-adds of a thread: an estimate from what a
load needs of addresses, not measured."""


@dataclass(frozen=True)
class Blocking:
    """Fields of `Convolution`, the tiles of an image, and the estimated cost of all work: in
    multiply-adds of one output channel."""

    tile_log: int
    taps_h: int
    taps_w: int
    channels: int
    patch_h: int
    patch_w: int
    step_h: int
    step_w: int
    at_h: int
    at_w: int
    tiles: int
    cost: float

    def values(self) -> dict[str, int]:
        fields = {**vars(self)}
        del fields["tiles"], fields["cost"]
        return fields


@lru_cache(maxsize=256)
def blocking(g: Geometry, pixels: int, patch: int, step: int, channels: int) -> Blocking:
    """The cheapest for tiles of so many pixels and of `channels` output channels, patches of at
    most `patch` elements and steps of at most `step` taps times input channels."""
    found = []
    for log in range(pixels.bit_length()):
        width, height = 1 << log, pixels >> log
        tiles = ceil(g.OH / height) * ceil(g.OW / width)
        for taps_h in _parts(g.KH):
            rows = _axis(height, taps_h, g.stride_h, g.dilation_h)
            for taps_w in _parts(g.KW):
                columns = _axis(width, taps_w, g.stride_w, g.dilation_w)
                plane, taps = rows[0] * columns[0], taps_h * taps_w
                if plane > patch or taps > step:
                    continue
                together = min(g.ic, patch // plane, step // taps)
                steps = ceil(g.KH / taps_h) * ceil(g.KW / taps_w)
                # A barrier costs about as much as some multiply-adds of all threads.
                once = (plane * BRING + 2 * pixels / together) / channels
                cost = tiles * g.ic * (steps * once + pixels * g.KH * g.KW)
                sizes = zip(rows, columns, strict=True)
                (ph, pw), (sh, sw), (ah, aw) = sizes
                found.append(
                    Blocking(log, taps_h, taps_w, together, ph, pw, sh, sw, ah, aw, tiles, cost)
                )
    return min(found, key=lambda each: each.cost)


def _parts(kernel: int) -> list[int]:
    """How many rows (or columns) of a kernel may be done together."""
    return sorted({ceil(kernel / n) for n in range(1, kernel + 1)})


def _axis(outputs: int, taps: int, stride: int, dilation: int) -> tuple[int, int, int]:
    """The rows (or columns) of a patch, how far apart they are in the image, and how many of them
    lie between neighbouring outputs."""
    if taps == 1:
        return outputs, stride, 1
    return (outputs - 1) * stride + (taps - 1) * dilation + 1, 1, stride
