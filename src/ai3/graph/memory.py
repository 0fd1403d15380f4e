"""Where each value of a graph lies in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A value of `bytes` that is written by step `first` and last read by step `last`."""

    bytes: int
    first: int
    last: int


def plan_memory(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets such that no two values that live at the same time overlap, and the arena's size.

    Greedy by size (Pisarchyk, Lee, "Efficient Memory Management for Deep Neural Net Inference",
    arXiv 2001.03288): the largest value first, each at the lowest offset that is free during its
    life.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for index in sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i].bytes):
        life = lifetimes[index]
        taken = sorted(
            (offsets[other], lifetimes[other].bytes)
            for other in placed
            if lifetimes[other].first <= life.last and life.first <= lifetimes[other].last
        )
        offset = 0
        for start, size in taken:
            if offset + life.bytes <= start:
                break
            offset = max(offset, _align(start + size))
        offsets[index] = offset
        placed.append(index)
    size = max(
        (offset + life.bytes for offset, life in zip(offsets, lifetimes, strict=True)), default=0
    )
    return offsets, _align(size)


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
