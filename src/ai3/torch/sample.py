"""What the user says of a network's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Sample:
    """An input's shape and, where it was given as an array, its dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None


def samples_of(sample: Any) -> list[Sample]:
    """Each input, of a shape or an array, or of a sequence of them."""
    if not _is_array(sample):
        parts = list(sample)
        if parts and all(isinstance(part, Sequence) or _is_array(part) for part in parts):
            return [_sample(part) for part in parts]
    return [_sample(sample)]


def shapes_of(sample: Any) -> list[tuple[int, ...]]:
    return [part.shape for part in samples_of(sample)]


def told(sample: Any) -> Sequence[Any]:
    """The shape, or shapes, as an error tells them."""
    shapes = shapes_of(sample)
    return shapes[0] if len(shapes) == 1 else shapes


def _sample(item: Any) -> Sample:
    if not _is_array(item):
        return Sample(tuple(item))
    dtype = None if item.dtype is None else getattr(torch, str(item.dtype).removeprefix("torch."))
    return Sample(tuple(item.shape), dtype)


def _is_array(item: Any) -> bool:
    # A number of numpy has a shape too.
    return hasattr(item, "dtype") and hasattr(item, "shape") and not isinstance(item, np.generic)
