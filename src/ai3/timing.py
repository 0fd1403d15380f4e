"""Timing several ways to compute the same thing, so that the comparison is fair.

The sides take turns, so that a change of clock speed or a busy neighbour hits them alike; each turn
is a block of calls after one that is discarded, since the side before has emptied the caches; what
counts is the median.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

BLOCK = 3
SHORTEST_SAMPLE = 200e-6


@dataclass(frozen=True)
class Timing:
    """Seconds for one call, and how many times as fast as the first side it is."""

    seconds: float
    ratio: float


def timed(
    sides: Mapping[str, Callable[[], object]], seconds: float, pause: float = 0
) -> dict[str, Timing]:
    """Time each side for about `seconds`; `ratio` is that of the first side's time to its own.
    Between their turns nothing is done for `pause` seconds."""
    repeats = {name: _repeats(call) for name, call in sides.items()}
    estimate = sum(_sample(call, repeats[name]) * repeats[name] for name, call in sides.items())
    turns = seconds * len(sides) / estimate
    # Calls too long for the time given are so long that few of them tell.
    block = BLOCK if turns >= 3 * (BLOCK + 1) else 1
    rounds = min(max(3, round(turns / (block + 1))), 200)

    samples: dict[str, list[float]] = {name: [] for name in sides}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in sides.items():
                time.sleep(pause)
                call()
                samples[name] += [_sample(call, repeats[name]) for _ in range(block)]
    finally:
        gc.enable()

    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    first = next(iter(medians.values()))
    return {name: Timing(median, first / median) for name, median in medians.items()}


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
