"""What the platform has, by operation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai3.platforms.cuda import convolution, own, products
from ai3.platforms.cuda.either import Either
from ai3.platforms.native import native
from ai3.platforms.platform import Algorithm

if TYPE_CHECKING:
    from ai3.platforms.cuda.platform import Cuda

_LAST = 1000.0
"""What torch's own functions cost: they are the last choice."""


def made(platform: "Cuda") -> dict[str, Sequence[Algorithm]]:
    found: dict[str, list[Algorithm]] = {
        op: list(each) for op, each in native("torch", _LAST).items()
    }
    for more in (
        convolution.algorithms_of(platform),
        products.algorithms_of(platform),
        own.algorithms_of(platform),
    ):
        for op, algorithms in more.items():
            known = {each.name: each for each in found.get(op, ())}
            for algorithm in algorithms:
                earlier = known.get(algorithm.name)
                known[algorithm.name] = algorithm if earlier is None else Either(earlier, algorithm)
            found[op] = list(known.values())
    return dict(found)
