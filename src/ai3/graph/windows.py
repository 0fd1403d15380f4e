"""The masks of attention within shifted windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def window_mask(
    height: int, width: int, window: Sequence[int], shift: Sequence[int]
) -> "np.ndarray[Any, Any]":
    """What is added to the scores in each window of an image that was rolled by `-shift`:
    (windows, 1, pixels, pixels), 0 between pixels that were neighbours before, else -100.

    Liu et al., "Swin Transformer", arXiv 2103.14030, figure 4.
    """
    regions = np.zeros((height, width))
    count = 0
    if any(shift):
        for rows in _bands(window[0], shift[0]):
            for columns in _bands(window[1], shift[1]):
                regions[rows, columns] = count
                count += 1
    tiles = regions.reshape(height // window[0], window[0], width // window[1], window[1])
    pixels = tiles.transpose(0, 2, 1, 3).reshape(-1, 1, 1, window[0] * window[1])
    return np.where(pixels != pixels.swapaxes(2, 3), -100.0, 0.0)


def _bands(window: int, shift: int) -> tuple[slice, slice, slice]:
    return slice(0, -window), slice(-window, -shift), slice(-shift, None)
