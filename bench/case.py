"""What is measured: one piece of work and the sides that each do it in their own way."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from ai3.ops import ON_CPU


def algorithms_of(op: str, asked: Iterable[str] | None) -> list[str]:
    """Those that were asked for and the operation has, all of its own where none were: a name that
    only another operation has is passed over."""
    own = ON_CPU[op]
    return own if asked is None else [name for name in asked if name in own]


@dataclass(frozen=True)
class Case:
    """`sides` maps a name to a call; those named in `baseline` are what the others are held
    against, by the fastest of them. `flops` or `bytes` is the work of one call, if it is known,
    `exact` computes the result in double precision, `times` is how often a network does it,
    `pause` the seconds between the turns of two sides, `epsilons` how many of float32's machine
    epsilons results may differ by, of the largest value, `first` the seconds of the first calls of
    sides that were called before."""

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
    first: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One side of a case: `ratio` is how many times as fast as the best of the baseline it is,
    `gflops` or `gbytes` its work per second in GFLOP/s or GB/s, `peak` the share of the machine's
    FMA peak, `scaling` how many times as fast as itself on one thread, `error` its relative L2
    error; `idle` are the seconds of a call after a pause and `first` those of the first of all,
    where they were measured, `state` that of the machine where several threads ran, see
    `ai3.machine`, and `dropped` the share of turns that were in another."""

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
    idle: float | None = None
    first: float | None = None
    state: str = ""
    dropped: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.group, self.case, self.side
