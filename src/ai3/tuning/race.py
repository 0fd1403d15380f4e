"""Which of several ways to compute the same is the fastest, by no more samples than that takes.

A race: in each round every candidate that is left is timed once, in turns, so that a busy neighbour
or a change of clock speed hits all of them alike. One that is significantly slower than the leader
is dropped, by a test over the pairs of their times in the same rounds; candidates that are close go
on, and so get more samples. Maron, Moore, "Hoeffding Races", NIPS 1993; Birattari, Stuetzle,
Paquete, Varrentrapp, "A Racing Algorithm for Configuring Metaheuristics", GECCO 2002, whose tests
are of ranks too. The one here is the sign test, which no outlier moves.

Races at many places, the layers of a network, are run together: in each run of the network every
layer is computed by one of its candidates, and all of them are timed.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import TypeAlias

from ai3.machine import BETWEEN, MIXED

HOPELESS, FIRST_LOOK = 2.0, 2
"""Dropped after so many samples: what in the best of them takes this many times as long as the
fastest."""

FIRST_TEST, ENOUGH, MOST = 7, 15, 100
"""Rounds: before which no test is made, after which of candidates that are close the fastest is
taken, and after which it is in any case."""

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


Lanes: TypeAlias = dict[str, dict[str, Lane]]
"""By places and by the names of what is raced there."""

Run: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, float]]
"""Runs at each place what is named, and tells the seconds of each."""


def race(
    places: Mapping[str, Sequence[str]],
    run: Run,
    watched: Callable[[Callable[[], None]], tuple[None, str]],
    deadline: Callable[[], bool] = lambda: False,
    close: float = CLOSE,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Lanes]:
    """By states of the machine what each candidate took, of those that were timed.

    Args:
        places: the names of the candidates of each.
        run: times one of each place.
        watched: runs a block, and tells in which state of the machine it ran, see
            `ai3.machine.Watch`. What was timed while that changed is thrown away.
        deadline: whether to stop. One run is made in any case.
        close: what the times of candidates may differ by for it not to matter, of the least.
        clock: seconds.
    """
    found: dict[str, Lanes] = {}
    state: str | None = None
    mixed = 0
    while state is None or not (deadline() or _is_decided(found[state])):
        lanes = _lanes(places) if state is None else found[state]
        end = clock() + BLOCK
        names = {place: _left(of) for place, of in lanes.items()}
        block = _Block(names, run, lambda: clock() > end, deadline)  # noqa: B023
        _, now = watched(block.rounds)
        mixed = mixed + 1 if now == MIXED else 0
        if 0 < mixed <= MOST_MIXED and not deadline():
            continue
        state = BETWEEN if mixed else now
        block.add_to(found.setdefault(state, _lanes(places)))
        for of in found[state].values():
            _drop(of, close)
    timed = {
        state: {
            place: {name: lane for name, lane in of.items() if lane.samples}
            for place, of in lanes.items()
        }
        for state, lanes in found.items()
    }
    return {
        state: {place: of for place, of in lanes.items() if of} for state, lanes in timed.items()
    }


def _lanes(places: Mapping[str, Sequence[str]]) -> Lanes:
    return {place: {name: Lane() for name in names} for place, names in places.items()}


def _left(lanes: Mapping[str, Lane]) -> list[str]:
    return [name for name, lane in lanes.items() if not lane.dropped]


class _Block:
    """Rounds of which it is not known yet in which state of the machine they are."""

    def __init__(
        self,
        places: Mapping[str, Sequence[str]],
        run: Run,
        is_over: Callable[[], bool],
        deadline: Callable[[], bool],
    ) -> None:
        self._run, self._is_over, self._deadline = run, is_over, deadline
        runs = max(map(len, places.values()), default=0)
        self._runs = [
            {place: names[i % len(names)] for place, names in places.items()} for i in range(runs)
        ]
        self._taken: list[tuple[str, str, float]] = []

    def rounds(self) -> None:
        turn = 0
        while not turn or not (turn == MOST or self._is_over() or self._deadline()):
            samples: dict[tuple[str, str], list[float]] = {}
            for i in range(len(self._runs)):
                if samples and self._deadline():
                    break
                names = self._runs[(i + turn) % len(self._runs)]
                for place, seconds in self._run(names).items():
                    samples.setdefault((place, names[place]), []).append(seconds)
            self._taken += [(*of, statistics.median(each)) for of, each in samples.items()]
            turn += 1

    def add_to(self, lanes: Lanes) -> None:
        for place, name, seconds in self._taken:
            lanes[place][name].samples.append(seconds)


def _drop(lanes: Mapping[str, Lane], close: float) -> None:
    """Drop what is slower and, where what is left is close, all but the fastest of it."""
    left = [lane for lane in lanes.values() if not lane.dropped and lane.samples]
    for lane in left:
        lane.dropped = any(
            leader.seconds < lane.seconds
            and (_is_hopeless(lane, leader) or _is_slower(lane, leader))
            for leader in left
            if not leader.dropped
        )
    left = [lane for lane in lanes.values() if not lane.dropped]
    rounds = min(len(lane.samples) for lane in left)
    if rounds < ENOUGH:
        return
    least = min(left, key=lambda lane: lane.seconds)
    most = max(lane.seconds for lane in left)
    if rounds >= MOST or most <= (1 + close) * least.seconds:
        for lane in left:
            lane.dropped = lane is not least


def _is_hopeless(lane: Lane, leader: Lane) -> bool:
    return len(lane.samples) >= FIRST_LOOK and min(lane.samples) > HOPELESS * leader.seconds


def _is_slower(lane: Lane, leader: Lane) -> bool:
    """By the sign test, one-sided, over the rounds in which both were timed."""
    rounds = min(len(lane.samples), len(leader.samples))
    if rounds < FIRST_TEST:
        return False
    pairs = zip(lane.samples[:rounds], leader.samples[:rounds], strict=True)
    won = sum(slow > fast for slow, fast in pairs)
    as_many: int = sum(comb(rounds, i) for i in range(won, rounds + 1))
    chance: float = as_many / 2**rounds
    return chance <= SIGNIFICANT


def _is_decided(lanes: Lanes) -> bool:
    """Whether at each place one is left that was timed often enough to be believed."""
    left = ([lane for lane in of.values() if not lane.dropped] for of in lanes.values())
    return all(len(of) == 1 and len(of[0].samples) >= FIRST_TEST for of in left)
