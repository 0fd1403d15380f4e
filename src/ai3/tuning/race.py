"""Which of several ways to compute the same is the fastest, by no more samples than that takes.

A race: in each round every candidate that is left is timed once, in turns, so that a busy neighbour
or a change of clock speed hits all of them alike. One that is significantly slower than the leader
is dropped, by a test over the pairs of their times in the same rounds; candidates that are close go
on, and so get more samples. Maron, Moore, "Hoeffding Races", NIPS 1993; Birattari, Stuetzle,
Paquete, Varrentrapp, "A Racing Algorithm for Configuring Metaheuristics", GECCO 2002, whose tests
are of ranks too. The one here is the sign test, which no outlier moves.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import comb
from typing import TypeVar

from ai3.machine import BETWEEN, MIXED

T = TypeVar("T")

HOPELESS = 2.0
"""Dropped after its first sample: what takes this many times as long as the fastest."""

FIRST_TEST, ENOUGH, MOST = 5, 15, 60
"""Rounds: before which no test is made, after which candidates that are close need no more, and
after which all end."""

SIGNIFICANT = 0.05
"""The probability at which a candidate that is as fast as the leader were dropped."""

CLOSE = 0.02
"""What two times may differ by for it not to matter."""

BLOCK = 0.25
"""Seconds of rounds between two looks at the state of the machine."""

MOST_MIXED = 3
"""Blocks in a row during which the state may change before that counts as a state of its own."""


@dataclass
class Lane:
    """What is known of one candidate in one state of the machine, seconds."""

    samples: list[float] = field(default_factory=list)
    dropped: bool = False

    @property
    def seconds(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Candidate:
    """Gives the seconds of one run, and how much slower than the fastest one of another group it
    may be and still be of use: what it takes to bring arrays from the layouts of one group to
    those of another."""

    sample: Callable[[], float]
    group: object = None
    allowance: float = 0.0


def race(
    candidates: Mapping[str, Candidate],
    watched: Callable[[Callable[[], float]], tuple[float, str]],
    deadline: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, Lane]]:
    """By states of the machine and by names what each candidate took.

    Args:
        candidates: by names.
        watched: runs a block, and tells in which state of the machine it ran, see
            `ai3.machine.Watch`. What was timed while that changed is thrown away.
        deadline: whether to stop; a round is finished.
        clock: seconds.
    """
    found: dict[str, dict[str, Lane]] = {}
    state: str | None = None
    mixed = 0
    while not deadline():
        lanes = {} if state is None else found[state]
        if lanes and _is_decided(candidates, lanes):
            break
        end = clock() + BLOCK
        block = _Block(candidates, lanes, lambda: clock() > end or deadline())  # noqa: B023
        _, now = watched(block.run)
        mixed = mixed + 1 if now == MIXED else 0
        if 0 < mixed <= MOST_MIXED:
            continue
        state = BETWEEN if mixed else now
        block.add_to(found.setdefault(state, {name: Lane() for name in candidates}))
    return {
        state: {name: lane for name, lane in lanes.items() if lane.samples}
        for state, lanes in found.items()
    }


class _Block:
    """Rounds of which it is not known yet in which state of the machine they are."""

    def __init__(
        self,
        candidates: Mapping[str, Candidate],
        lanes: Mapping[str, Lane],
        is_over: Callable[[], bool],
    ) -> None:
        self._candidates, self._is_over = candidates, is_over
        self._lanes = {
            name: Lane(list(lane.samples), lane.dropped)
            for name in candidates
            for lane in [lanes.get(name, Lane())]
        }
        self._taken: dict[str, list[float]] = {name: [] for name in candidates}

    def run(self) -> float:
        """After a round that warms up; how many seconds were timed."""
        for name in self._left():
            self._candidates[name].sample()
        turn = 0
        while not turn or not (self._is_over() or _is_decided(self._candidates, self._lanes)):
            left = self._left()
            for i in range(len(left)):
                name = left[(i + turn) % len(left)]
                seconds = self._candidates[name].sample()
                self._lanes[name].samples.append(seconds)
                self._taken[name].append(seconds)
            _drop(self._candidates, self._lanes)
            turn += 1
        return sum(map(sum, self._taken.values()))

    def add_to(self, lanes: Mapping[str, Lane]) -> None:
        for name, lane in lanes.items():
            lane.samples += self._taken[name]
            lane.dropped = lane.dropped or self._lanes[name].dropped

    def _left(self) -> list[str]:
        return [name for name, lane in self._lanes.items() if not lane.dropped]


def _drop(candidates: Mapping[str, Candidate], lanes: Mapping[str, Lane]) -> None:
    left = {name: lane for name, lane in lanes.items() if not lane.dropped and lane.samples}
    for name, lane in left.items():
        for other, leader in left.items():
            if other == name or leader.seconds >= lane.seconds:
                continue
            same = candidates[other].group == candidates[name].group
            allowed = 0.0 if same else candidates[name].allowance
            limit = [seconds + allowed for seconds in leader.samples]
            hopeless = lane.seconds > HOPELESS * statistics.median(limit)
            if hopeless or _is_slower(lane.samples, limit):
                lane.dropped = True
                break


def _is_slower(samples: list[float], limit: list[float]) -> bool:
    """By the sign test, one-sided, over the rounds in which both were timed."""
    rounds = min(len(samples), len(limit))
    if rounds < FIRST_TEST:
        return False
    pairs = zip(samples[:rounds], limit[:rounds], strict=True)
    won = sum(slow > fast for slow, fast in pairs)
    chance: float = sum(comb(rounds, i) for i in range(won, rounds + 1)) / 2.0**rounds
    return chance <= SIGNIFICANT


def _is_decided(candidates: Mapping[str, Candidate], lanes: Mapping[str, Lane]) -> bool:
    """Whether in each group one is left, or those left are close."""
    groups: dict[object, list[Lane]] = {}
    for name, lane in lanes.items():
        if not lane.dropped:
            groups.setdefault(candidates[name].group, []).append(lane)
    rounds = min((len(lane.samples) for of in groups.values() for lane in of), default=MOST)
    if not FIRST_TEST <= rounds < MOST:
        return rounds >= MOST
    return all(
        len(group) == 1 or (rounds >= ENOUGH and _are_close(group)) for group in groups.values()
    )


def _are_close(lanes: list[Lane]) -> bool:
    times = [lane.seconds for lane in lanes]
    return max(times) <= (1 + CLOSE) * min(times)
