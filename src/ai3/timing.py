"""Timing several ways to compute the same thing, so that the comparison is fair.

The sides take turns, so that a change of clock speed or a busy neighbour hits them alike; each turn
is a block of calls after one that is discarded, since the side before has emptied the caches; what
counts is the median. Where a `Watch` tells in which state the machine is, turns in different states
are not mixed, and those count that are in the state that most were in.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ai3.machine import MIXED, Watch

BLOCK = 3
SHORTEST_SAMPLE = 200e-6
WATCHED = 0.25
"""Seconds after which the machine's state is looked at again."""


@dataclass(frozen=True)
class Timing:
    """Seconds for one call, and how many times as fast as the first side it is. `idle` are those of
    the first call of a turn, where turns begin with a pause, and `first` those of the first call
    of all, where that was measured; `state` is the machine's meanwhile, and `dropped` the share of
    turns that were in another."""

    seconds: float
    ratio: float
    idle: float | None = None
    first: float | None = None
    state: str = ""
    dropped: float = 0.0


@dataclass
class _Turns:
    """What was measured in one state of the machine."""

    rounds: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: "_Turns") -> None:
        self.rounds += other.rounds
        for mine, its in ((self.samples, other.samples), (self.idle, other.idle)):
            for name, taken in its.items():
                mine.setdefault(name, []).extend(taken)


def timed(
    sides: Mapping[str, Callable[[], object]],
    seconds: float,
    pause: float = 0,
    watch: Watch | None = None,
) -> dict[str, Timing]:
    """Time each side for about `seconds`; `ratio` is that of the first side's time to its own.
    Between their turns nothing is done for `pause` seconds."""
    repeats = {name: _repeats(call) for name, call in sides.items()}
    estimate = sum(_sample(call, repeats[name]) * repeats[name] for name, call in sides.items())
    turns = seconds * len(sides) / estimate
    # Calls too long for the time given are so long that few of them tell.
    block = BLOCK if turns >= 3 * (BLOCK + 1) else 1
    rounds = min(max(3, round(turns / (block + 1))), 200)
    left = rounds

    def some_rounds() -> _Turns:
        """As many as fit into the time for which the machine is not looked at."""
        nonlocal left
        taken = _Turns()
        started = time.perf_counter()
        while left and not (taken.rounds and time.perf_counter() - started >= WATCHED):
            for name, call in sides.items():
                time.sleep(pause)
                taken.idle.setdefault(name, []).append(_sample(call, 1))
                of_it = taken.samples.setdefault(name, [])
                of_it += [_sample(call, repeats[name]) for _ in range(block)]
            left -= 1
            taken.rounds += 1
        return taken

    by_state: dict[str, _Turns] = {}
    gc.collect()
    gc.disable()
    try:
        while left:
            taken, state = watch(some_rounds) if watch else (some_rounds(), "")
            by_state.setdefault(state, _Turns()).add(taken)
    finally:
        gc.enable()
    return _timings(by_state, rounds, bool(pause))


def _timings(by_state: Mapping[str, _Turns], rounds: int, paused: bool) -> dict[str, Timing]:
    """Of the state that most turns were in; turns in which it changed count where there are no
    others."""
    state = max(by_state, key=lambda name: (name != MIXED, by_state[name].rounds))
    turns = by_state[state]
    medians = {name: statistics.median(taken) for name, taken in turns.samples.items()}
    first = next(iter(medians.values()))
    return {
        name: Timing(
            median,
            first / median,
            statistics.median(turns.idle[name]) if paused else None,
            state=state,
            dropped=1 - turns.rounds / rounds,
        )
        for name, median in medians.items()
    }


def _repeats(call: Callable[[], object]) -> int:
    """How many calls make one sample that is long against the clock's own cost."""
    call()
    repeats = 1
    while (taken := _sample(call, repeats) * repeats) < SHORTEST_SAMPLE:
        repeats = max(2 * repeats, round(repeats * SHORTEST_SAMPLE / max(taken, 1e-7)))
    return repeats


def _sample(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
