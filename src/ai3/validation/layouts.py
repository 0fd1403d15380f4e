"""Images in the layouts of their memory."""

from typing import Any

import numpy as np

from ai3 import _core


def to_memory(x: Any, layout: str, block: int | None = None) -> Any:
    """The memory of an image (N, C, H, W) or (C, H, W) in a layout, as a dense array; a last block
    of `block` channels, by default this level's, is filled up with ones."""
    if layout == "dense":
        return np.ascontiguousarray(x)
    if layout == "channels_last":
        return np.ascontiguousarray(np.moveaxis(x, -3, -1))
    block = block or channel_block(x.dtype)
    missing = -x.shape[-3] % block
    added = [(0, 0)] * (x.ndim - 3) + [(0, missing), (0, 0), (0, 0)]
    x = np.pad(x, added, constant_values=1)
    x = x.reshape(*x.shape[:-3], x.shape[-3] // block, block, *x.shape[-2:])
    return np.ascontiguousarray(np.moveaxis(x, -3, -1))


def from_memory(memory: Any, spec: _core.Spec, block: int | None = None) -> Any:
    """The array of that spec whose memory this is, of whatever shape."""
    shape = spec.shape
    if spec.layout == "dense":
        return memory.reshape(shape)
    *batch, channels, height, width = shape
    if spec.layout == "channels_last":
        return np.moveaxis(memory.reshape(*batch, height, width, channels), -1, -3)
    block = block or channel_block(memory.dtype)
    blocks = -(-channels // block)
    x = np.moveaxis(memory.reshape(*batch, blocks, height, width, block), -1, -3)
    return x.reshape(*batch, blocks * block, height, width)[..., :channels, :, :]


def channel_block(dtype: Any) -> int:
    """Channels in a block of the blocked layout, at this instruction set level."""
    dtype = np.dtype(dtype)
    return _core.Spec(dtype.name, (1, 1, 1), "blocked").bytes // int(dtype.itemsize)
