"""What the machine has to do with how long a computation takes: its processor, and whether its
threads have a core each.

A host may put two processors of a virtual machine on the two hyperthreads of one core, for seconds
to minutes. Two threads then compute no more than one does, and what uses both takes up to twice as
long: timings of the two states cannot be compared. The peak of multiply-adds from registers tells
them apart, since it depends on nothing else.
"""

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from ai3 import _core, arrays

T = TypeVar("T")

APART, SHARED, BETWEEN, MIXED = "apart", "shared", "between", "mixed"
"""The states of a machine; "mixed" is that of a block of timing during which it changed."""

LEAST_APART, MOST_SHARED = 0.85, 0.625
"""Of as many times one thread's peak as there are threads."""

FRESH = 0.1
"""Seconds for which a state that was measured is still that of the machine."""


@dataclass(frozen=True)
class State:
    """The measured peaks of multiply-adds in float32 of one thread and of `threads`, GFLOP/s."""

    one: float
    all: float
    threads: int

    @property
    def ratio(self) -> float:
        """How many times one thread's peak all have."""
        return self.all / self.one

    @property
    def name(self) -> str:
        """ "apart" where each thread has a core, "shared" where two have one, else "between"."""
        share = self.ratio / self.threads
        return APART if share >= LEAST_APART else SHARED if share <= MOST_SHARED else BETWEEN

    def __str__(self) -> str:
        if self.threads == 1:
            return f"1 thread, FMA peak {self.one:.0f} GFLOP/s"
        return f"{self.threads} threads {self.name}, FMA peak {self.all:.0f} GFLOP/s"


def state(threads: int | None = None) -> State:
    """Measure in what state the machine is, in some hundredths of a second; `threads` are those
    that a call from this thread uses by default. One thread is always "apart"."""
    if threads is None:
        arrays.follow_torch_threads()
        threads = _core.max_threads()
    one = _core.fma_peak("float32", 1)
    return State(one, one if threads == 1 else _core.fma_peak("float32", threads), threads)


class Watch:
    """Runs blocks of timing and tells in which state of the machine each ran:

    >>> watch = Watch()
    >>> seconds, state = watch(block)
    """

    def __init__(
        self,
        threads: int | None = None,
        measure: Callable[[int | None], State] = state,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._threads, self._measure, self._clock = threads, measure, clock
        self._latest: tuple[float, State] | None = None

    def __call__(self, block: Callable[[], T]) -> tuple[T, str]:
        """What the block gives, and the state's name: "mixed" where that was another before the
        block than after it."""
        before = self._now(FRESH)
        result = block()
        after = self._now(0)
        return result, before.name if before.name == after.name else MIXED

    @property
    def state(self) -> State:
        """The latest that was measured."""
        return self._now(float("inf"))

    def _now(self, fresh: float) -> State:
        if self._latest is not None and self._latest[1].threads == 1:
            return self._latest[1]  # there is no other
        if self._latest is None or not self._clock() - self._latest[0] < fresh:
            self._latest = (0.0, self._measure(self._threads))
            self._latest = (self._clock(), self._latest[1])
        return self._latest[1]


@cache
def processor() -> str:
    """The processor's name and, where the system tells, its family, model and stepping."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    first = text.partition("\n\n")[0]
    fields = dict(re.findall(r"^([^:\t]+?)\s*:[ \t]*(.*)$", first, re.M))
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [fields.get(key, "") for key in ("cpu family", "model", "stepping")]
    return f"{name} ({'.'.join(numbers)})" if all(numbers) else name
