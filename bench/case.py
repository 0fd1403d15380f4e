"""What is measured: one piece of work and the sides that each do it in their own way."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from ai3 import SUPPORTED_ALGORITHMS


def algorithms_of(op: str, asked: Iterable[str] | None) -> list[str]:
    """Those that were asked for and the operation has, all of its own where none were: a name that
    only another operation has is passed over."""
    own = SUPPORTED_ALGORITHMS[op]
    return own if asked is None else [name for name in asked if name in own]


@dataclass(frozen=True)
class Case:
    """`sides` maps a name to a call; those named in `baseline` are what the others are held
    against, by the fastest of them. `flops` or `bytes` is the work of one call, if it is known,
    `exact` computes the result in double precision, `times` is how often a network does it,
    `pause` the seconds between the turns of two sides, `epsilons` how many of float32's machine
    epsilons results may differ by, of the largest value."""

    group: str
    name: str
    sides: Mapping[str, Callable[[], object]]
    baseline: tuple[str, ...]
    flops: int = 0
    bytes: int = 0
    exact: Callable[[], torch.Tensor] | None = None
    times: int = 1
    pause: float = 0
    epsilons: float = 2000


@dataclass(frozen=True)
class Result:
    """One side of a case: `ratio` is how many times as fast as the best of the baseline it is,
    `gflops` or `gbytes` its work per second in GFLOP/s or GB/s, `peak` the share of the machine's
    FMA peak, `scaling` how many times as fast as itself on one thread, `error` its relative L2
    error."""

    group: str
    case: str
    side: str
    seconds: float
    ratio: float
    gflops: float | None = None
    peak: float | None = None
    gbytes: float | None = None
    scaling: float | None = None
    error: float | None = None
    times: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        return self.group, self.case, self.side
