"""Where images are read when they are made larger, smaller, moved, or put together of windows."""

import math
from typing import Any

import numpy as np

from ai3.graph.bounds import MOST_ELEMENTS, MOST_PLACES, bounded

Array = np.ndarray[Any, Any]


def smoothing(
    extent: int, count: int, mode: str, align_corners: bool, factor: float | None, which: int
) -> Any:
    """Of an axis that is resized with antialiasing, for each of `count` output elements the places
    of what it is the sum of (`which` is 0), one output after the other, or the weights (1),
    (count, taps). The kernel of `mode` is as wide as the step where that is above 1; the cubic one
    is of Keys (1981) with a = -0.5."""
    if align_corners:
        step = (extent - 1) / (count - 1) if count > 1 else 0.0
    else:
        step = 1 / factor if factor else extent / count
    wide = max(step, 1.0)
    support = wide * (1 if mode == "bilinear" else 2)
    taps = 2 * math.ceil(support) + 1
    bounded(count, taps, most=MOST_PLACES if which == 0 else MOST_ELEMENTS)
    centre = step * (np.arange(count) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), extent)
    places = first[:, None] + np.arange(taps)
    if which == 0:
        return tuple(np.minimum(places, extent - 1).ravel().tolist())
    distance = np.abs(places - centre[:, None] + 0.5) / wide
    weights = np.where(
        places < last[:, None], _triangle(distance) if mode == "bilinear" else _cubic(distance), 0
    )
    return weights / weights.sum(1, keepdims=True)


def _triangle(x: Array) -> Array:
    return np.asarray(np.maximum(1 - x, 0))


def _cubic(x: Array, a: float = -0.5) -> Array:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def folded(
    extent: int, size: int, count: int, stride: int, padding: int, dilation: int
) -> tuple[int, ...]:
    """Along an axis onto which `count` windows of `size` are put, which places of which windows lie
    at each of `extent` elements, as place * count + window, each filled with size * count to the
    longest."""
    bounded(extent, size)
    found = [
        [
            k * count + start // stride
            for k in range(size)
            if (start := at + padding - k * dilation) % stride == 0 and 0 <= start // stride < count
        ]
        for at in range(extent)
    ]
    longest = max(1, *map(len, found))
    return tuple(p for row in found for p in (row + [size * count] * (longest - len(row))))


def affine_places(extents: tuple[int, ...], align_corners: bool) -> Array:
    """The places (x, y, 1) of an image's pixels, or (x, y, z, 1) of a volume's, from -1 to 1, a row
    for each."""

    def axis(extent: int) -> Array:
        if align_corners:
            return np.linspace(-1, 1, extent) if extent > 1 else np.zeros(1)
        return (2 * np.arange(extent) + 1) / extent - 1

    axes = np.meshgrid(*map(axis, extents), indexing="ij")
    return np.stack([*reversed(axes), np.ones_like(axes[0])], -1).reshape(-1, len(extents) + 1)


def grid_steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many pixels apart neighbours are in an image or volume (N, C, ...) along x, y and z."""
    return tuple(math.prod(shape[len(shape) - i :]) for i in range(len(shape) - 2))


def grid_corners(dims: int, first: int, taps: int) -> Array:
    """The pixels around a place, by their distances along x, y and z from the one before it, a
    column for each."""
    axes = np.meshgrid(*[np.arange(first, first + taps)] * dims, indexing="ij")
    return np.stack(axes).reshape(dims, -1)
