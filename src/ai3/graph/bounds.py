"""What planning may make: a file's graph, or a strange input, could ask for any amount."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_DIMS = 64
MOST_PLACES = 1 << 22
MOST_ELEMENTS = 1 << 25
"""Of a shape, of a tuple, and of an array or of a dimension that is tabulated."""


def bounded(*factors: float, most: int = MOST_PLACES) -> int:
    """Their product, of which none passes `most` either: a negative one would hide it. Raises
    ValueError."""
    if len(factors) > MOST_DIMS:
        raise ValueError(f"a product of {len(factors)} extents, more than {MOST_DIMS}")
    product: float = 1
    for factor in factors:
        product *= factor
        if not abs(factor) <= most or not abs(product) <= most:
            raise ValueError(
                f"an expression comes to {' * '.join(map(str, factors))} elements, more than {most}"
            )
    return int(product)


class Budget:
    """What one graph's planning may make altogether, in elements of arrays; a tuple's take more."""

    MOST = 1 << 28
    FOR_PLACE = 32

    def __init__(self) -> None:
        self._left = self.MOST

    def spend(self, elements: int) -> None:
        """Raises ValueError where there were not as many left."""
        self._left -= elements
        if self._left < 0:
            raise ValueError(f"the graph's constants and tables pass {self.MOST} elements")

    def spend_on(self, made: Any) -> None:
        if isinstance(made, tuple):
            self.spend(self.FOR_PLACE * len(made))
        elif isinstance(made, np.ndarray):
            self.spend(made.size)

    def spend_on_output(self, shape: Sequence[int], size: int, given: int) -> None:
        """Of a node that reads `given` elements: `size` bytes, which memory must hold, and tables
        of what is longer than that."""
        if size > MEMORY:
            raise ValueError(
                f"its output {tuple(shape)} takes {size / 1e9:.4g} GB, more than this machine's "
                f"memory of {MEMORY / 1e9:.4g} GB: give it smaller inputs or sizes"
            )
        for extent in shape:
            if extent > given:
                bounded(extent, most=MOST_ELEMENTS)
                self.spend(extent)


def _memory() -> float:
    """The machine's, in bytes."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


MEMORY = _memory()
