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
_Axis = _structure("Axis", **_ints(f"{_SIZES} taps step phases pitch tile_stride"))
_Conv2d = _structure("Conv2d", **_ints("IC OC groups mode chunk chunks"), h=_Axis, w=_Axis)
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
    ic = p.IC // p.groups
    rows, tiles = _group(p)
    h, w = _sizes(p)
    for staged in ((True, True), (False, True), (False, False)):
        axes = _rows(h, rows * VECTORS, staged[0]), _columns(w, staged[1])
        floats = axes[0]["pitch"] * axes[1]["pitch"] * axes[1]["phases"]
        if floats <= LOCAL_FLOATS:
            break
    chunk, chunks = _chunks(ic, LOCAL_FLOATS // floats)
    argument = _conv2d(p, chunk, chunks, *axes)
    return Work(argument, _groups(p, rows, tiles), _size(rows, tiles))


def shifts(work: Work) -> list[int]:
    """Of `direct`: where in a patch the terms of a stage begin."""
    p, h, w = work.argument, work.argument.h, work.argument.w
    pitch = w.pitch * w.phases
    columns = [kw * w.dilation for kw in range(w.taps)]
    return [
        (c * h.pitch + kh * h.dilation) * pitch + column % w.phases * w.pitch + column // w.phases
        for c in range(p.chunk)
        for kh in range(h.taps)
        for column in columns
    ]


def smm(p: Problem) -> Work:
    rows, tiles = _group(p)
    chunk, chunks = _chunks(p.IC // p.groups * p.KH * p.KW, LOCAL_FLOATS // (TILES * CHANNELS))
    argument = _conv2d(p, chunk, chunks, *_sizes(p))
    return Work(argument, _groups(p, rows, tiles), _size(rows, tiles))


def implicit_gemm(p: Problem) -> Work:
    rows, tiles = ROWS, min(TILES, _oc_tiles(p))
    chunk, chunks = _chunks(p.IC // p.groups * p.KH * p.KW, 32)
    argument = _conv2d(p, chunk, chunks, *_sizes(p))
    pixels = p.N * p.OH * p.OW
    groups = (1, p.groups * _up(_oc_tiles(p), tiles), _up(pixels, rows * VECTORS * LANES))
    return Work(argument, groups, _size(rows, tiles))


def linear(p: Problem) -> Work:
    rows, tiles = min(ROWS, _up(p.OC, VECTORS * LANES)), min(TILES, max(1, _up(p.rows, CHANNELS)))
    width = rows * VECTORS * LANES
    chunk, chunks = _chunks(p.IC, LOCAL_FLOATS // (TILES * CHANNELS))
    across = _up(p.OC, width)
    argument = _Linear(p.rows, p.IC, p.OC, chunk, chunks, across * width)
    groups = (1, _up(p.rows, tiles * CHANNELS), across)
    return Work(argument, groups, _size(rows, tiles))


def pooling(p: Problem) -> Work:
    h, w = ({"in": p.IH, "out": p.OH}, {"in": p.IW, "out": p.OW})
    if "kernel_size" in p.attributes:
        h, w = _sizes(p)
    divisor = p.attributes.get("divisor_override")
    argument = _Pooling(
        divisor or 0, p.attributes.get("count_include_pad", True), _Window(**h), _Window(**w)
    )
    return Work(argument, (p.N * p.C, _up(p.OH, ROWS), _up(p.OW, LANES)), (1, ROWS, LANES))


def _conv2d(p: Problem, chunk: int, chunks: int, h: dict[str, int], w: dict[str, int]) -> Any:
    mode = MODES.index(p.padding_mode)
    return _Conv2d(p.IC, p.OC, p.groups, mode, chunk, chunks, _Axis(**h), _Axis(**w))


def _sizes(p: Problem) -> tuple[dict[str, int], dict[str, int]]:
    """By the names of the structures."""
    names = _SIZES.split()
    h = (p.IH, p.OH, p.KH, p.stride_h, p.dilation_h, p.pad_top)
    w = (p.IW, p.OW, p.KW, p.stride_w, p.dilation_w, p.pad_left)
    return dict(zip(names, h, strict=True)), dict(zip(names, w, strict=True))


def _rows(axis: dict[str, int], tile: int, whole: bool) -> dict[str, int]:
    """How rows are staged for `tile` rows of the output: all that the kernel reaches, or those of
    one of its rows."""
    kernel, stride, dilation = axis["kernel"], axis["stride"], axis["dilation"]
    if not whole or kernel == 1:
        return {**axis, "taps": 1, "step": stride, "pitch": tile, "tile_stride": 1}
    pitch = (tile - 1) * stride + (kernel - 1) * dilation + 1
    return {**axis, "taps": kernel, "step": 1, "pitch": pitch, "tile_stride": stride}


def _columns(axis: dict[str, int], whole: bool) -> dict[str, int]:
    """The same for columns."""
    kernel, stride, dilation = axis["kernel"], axis["stride"], axis["dilation"]
    if not whole or kernel == 1:
        return {**axis, "taps": 1, "step": stride, "phases": 1, "pitch": LANES}
    pitch = _up((LANES - 1) * stride + (kernel - 1) * dilation + 1, stride)
    return {**axis, "taps": kernel, "step": 1, "phases": stride, "pitch": pitch}


def _group(p: Problem) -> tuple[int, int]:
    return min(ROWS, _up(p.OH, VECTORS)), min(TILES, _oc_tiles(p))


def _groups(p: Problem, rows: int, tiles: int) -> Sizes:
    deep = p.groups * _up(_oc_tiles(p), tiles)
    return p.N, deep, _up(p.OH, rows * VECTORS) * _up(p.OW, LANES)


def _size(rows: int, tiles: int) -> Sizes:
    return tiles, rows, LANES


def _oc_tiles(p: Problem) -> int:
    return _up(p.OC // p.groups, CHANNELS)


def _chunks(terms: int, most: int) -> tuple[int, int]:
    """The size of chunks, as alike as can be, and their number."""
    chunks = _up(terms, most)
    return _up(terms, max(1, chunks)), chunks


def _up(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
