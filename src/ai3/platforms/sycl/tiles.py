"""What the kernels get to know of a problem, and how its work is divided into groups.

The structures are those of `kernels/`, field by field; the constants too.
"""

from collections.abc import Iterator
from ctypes import Structure, c_int
from dataclasses import dataclass
from math import prod
from typing import Any

from ai3.problem import Problem

LANES, CHANNELS, VECTORS = 16, 8, 2
LOCAL_FLOATS = 8192
ROWS, TILES = 4, 16
"""Of a group's LANES x rows x tiles work-items, at most."""

Sizes = tuple[int, ...]
LARGEST = 2**31 - 1
MODES = ("zeros", "reflect", "replicate", "circular")


def _structure(name: str, **fields: Any) -> Any:
    return type(name, (Structure,), {"_fields_": list(fields.items())})


def _ints(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), c_int)


_SIZES = "in out kernel stride dilation pad"
_Axis = _structure("Axis", **_ints(f"{_SIZES} taps step phases size"))
_COUNTS = "IC OC groups mode chunk chunks rows columns vector"
_Conv2d = _structure("Conv2d", **_ints(_COUNTS), h=_Axis, w=_Axis)
_Linear = _structure("Linear", **_ints("rows IC OC chunk chunks pitch"))
_Window = _structure("Window", **_ints(_SIZES))
_Pooling = _structure("Pooling", **_ints("divisor counts_padding"), h=_Window, w=_Window)


@dataclass(frozen=True)
class Work:
    """A kernel's argument that describes the problem, and how many groups of what size there
    are."""

    argument: Any
    groups: Sizes
    size: Sizes


def refusal(p: Problem) -> str:
    """Why the kernels cannot count that far; empty where they can."""
    arrays = (*p.inputs, *(w for w in p.weights if w is not None), p.output)
    plain = [v for value in p.attributes.values() for v in _integers(value)]
    # A plane of an image, a weight and an attribute are counted by 32 bits.
    counted = [prod(shape[-2:]) for shape in arrays] + [prod(shape[1:]) for shape in arrays[1:]]
    if max([*counted, *plain], default=0) > LARGEST // 2:
        return "it has more elements than 2^30 in a plane or a row of the weights"
    return ""


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, tuple):
        yield from (v for v in value if isinstance(v, int))


def direct(p: Problem) -> Work:
    h, w = _sizes(p)
    if _is_pointwise(p):  # a row of pixels
        h, w = {**h, "in": 1, "out": 1}, {**w, "in": p.IH * p.IW, "out": p.OH * p.OW}
    for staged in ((True, True), (False, True), (False, False)):
        found = [tile for tile in _tiles(h, w, staged) if tile.floats + tile.slots <= LOCAL_FLOATS]
        if found:
            break
    tile = min(found, key=lambda tile: (tile.slots * tile.number, tile.number))
    chunk, chunks = _chunks(p.IC // p.groups, (LOCAL_FLOATS - tile.slots) // tile.floats)
    return _work(p, tile, chunk, chunks)


@dataclass(frozen=True)
class _Tile:
    """Of a convolution's output, for a group: height x width pixels by `rows` of work-items, each
    of which has VECTORS vectors of LANES pixels. See OutputTile in `conv2d.hpp`."""

    rows: int
    height: int
    width: int
    vector: int
    h: dict[str, int]
    w: dict[str, int]

    @property
    def slots(self) -> int:
        return _slots(self.rows)

    @property
    def number(self) -> int:
        """How many make an image."""
        return _up(self.h["out"], self.height) * _up(self.w["out"], self.width)

    @property
    def floats(self) -> int:
        """Of a channel's patch."""
        return prod(axis[name] for axis in (self.h, self.w) for name in ("phases", "size"))


def _tiles(h: dict[str, int], w: dict[str, int], staged: tuple[bool, bool]) -> Iterator[_Tile]:
    """Those whose vectors are of a row each, and those in which one row follows the other."""
    for rows in range(1, ROWS + 1):
        if rows <= _up(h["out"], VECTORS):
            height, across = rows * VECTORS, _staged(w, LANES, staged[1])
            down = _staged(h, height, staged[0])
            yield _Tile(rows, height, LANES, across["size"], down, across)
        width = min(w["out"], _slots(rows))
        across = _staged(w, width, staged[1])
        height = min(h["out"], (_slots(rows) - width) // across["size"] + 1)
        if width == w["out"] or height == 1:
            yield _Tile(rows, height, width, LANES, _staged(h, height, staged[0]), across)


def _is_pointwise(p: Problem) -> bool:
    return (p.KH, p.KW, p.stride_h, p.stride_w) == (1, 1, 1, 1) and not any(
        (p.pad_top, p.pad_bottom, p.pad_left, p.pad_right)
    )


def shifts(work: Work) -> list[int]:
    """Of `direct`: where in a patch the terms of a stage begin."""
    p, h, w = work.argument, work.argument.h, work.argument.w
    rows = [divmod(kh * h.dilation, h.phases) for kh in range(h.taps)]
    columns = [divmod(kw * w.dilation, w.phases) for kw in range(w.taps)]
    return [
        (((c * h.phases + i) * w.phases + j) * h.size + row) * w.size + column
        for c in range(p.chunk)
        for row, i in rows
        for column, j in columns
    ]


def smm(p: Problem) -> Work:
    rows = min(ROWS, _up(p.OH, VECTORS))
    h, w = _sizes(p)
    tile = _Tile(rows, rows * VECTORS, LANES, LANES, h, {**w, "size": LANES})
    chunk, chunks = _chunks(p.IC // p.groups * p.KH * p.KW, LOCAL_FLOATS // (TILES * CHANNELS))
    return _work(p, tile, chunk, chunks)


def implicit_gemm(p: Problem) -> Work:
    rows, tiles = ROWS, min(TILES, _oc_tiles(p))
    chunk, chunks = _chunks(p.IC // p.groups * p.KH * p.KW, 32)
    h, w = _sizes(p)
    argument = _conv2d(p, chunk, chunks, (0, 0, 0), h, w)
    pixels = p.N * p.OH * p.OW
    groups = (1, p.groups * _up(_oc_tiles(p), tiles), _up(pixels, _slots(rows)))
    return Work(argument, groups, (tiles, rows, LANES))


def linear(p: Problem) -> Work:
    rows, tiles = min(ROWS, _up(p.OC, VECTORS * LANES)), min(TILES, max(1, _up(p.rows, CHANNELS)))
    width = _slots(rows)
    chunk, chunks = _chunks(p.IC, LOCAL_FLOATS // (TILES * CHANNELS))
    across = _up(p.OC, width)
    argument = _Linear(p.rows, p.IC, p.OC, chunk, chunks, across * width)
    groups = (1, _up(p.rows, tiles * CHANNELS), across)
    return Work(argument, groups, (tiles, rows, LANES))


def pooling(p: Problem) -> Work:
    h, w = ({"in": p.IH, "out": p.OH}, {"in": p.IW, "out": p.OW})
    if "kernel_size" in p.attributes:
        h, w = _sizes(p)
    divisor = p.attributes.get("divisor_override")
    argument = _Pooling(
        divisor or 0, p.attributes.get("count_include_pad", True), _Window(**h), _Window(**w)
    )
    return Work(argument, (p.N * p.C, _up(p.OH, ROWS), _up(p.OW, LANES)), (1, ROWS, LANES))


def _work(p: Problem, tile: _Tile, chunk: int, chunks: int) -> Work:
    number, shape = p.N * p.groups * tile.number, (tile.height, tile.width, tile.vector)
    tiles = min(ROWS * TILES // tile.rows, _oc_tiles(p))
    while tiles > 1 and number * _up(_oc_tiles(p), tiles) < 2 * p.threads:
        tiles = _up(tiles, 2)
    groups = (p.N, p.groups * _up(_oc_tiles(p), tiles), tile.number)
    return Work(_conv2d(p, chunk, chunks, shape, tile.h, tile.w), groups, (tiles, tile.rows, LANES))


def _conv2d(
    p: Problem, chunk: int, chunks: int, tile: Sizes, h: dict[str, int], w: dict[str, int]
) -> Any:
    mode = MODES.index(p.padding_mode)
    return _Conv2d(p.IC, p.OC, p.groups, mode, chunk, chunks, *tile, _Axis(**h), _Axis(**w))


def _sizes(p: Problem) -> tuple[dict[str, int], dict[str, int]]:
    """By the names of the structures."""
    names = _SIZES.split()
    h = (p.IH, p.OH, p.KH, p.stride_h, p.dilation_h, p.pad_top)
    w = (p.IW, p.OW, p.KW, p.stride_w, p.dilation_w, p.pad_left)
    return dict(zip(names, h, strict=True)), dict(zip(names, w, strict=True))


def _staged(axis: dict[str, int], tile: int, whole: bool) -> dict[str, int]:
    """How an axis is staged for `tile` pixels of the output: all pixels that the kernel reaches, by
    phases, or those of one of its taps."""
    kernel, stride, dilation = axis["kernel"], axis["stride"], axis["dilation"]
    if not whole or kernel == 1:
        return {**axis, "taps": 1, "step": stride, "phases": 1, "size": tile}
    size = _up((tile - 1) * stride + (kernel - 1) * dilation + 1, stride)
    return {**axis, "taps": kernel, "step": 1, "phases": stride, "size": size}


def _slots(rows: int) -> int:
    return rows * VECTORS * LANES


def _oc_tiles(p: Problem) -> int:
    return _up(p.OC // p.groups, CHANNELS)


def _chunks(terms: int, most: int) -> tuple[int, int]:
    """The size of chunks, as alike as can be, and their number."""
    chunks = _up(terms, most)
    return _up(terms, max(1, chunks)), chunks


def _up(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
