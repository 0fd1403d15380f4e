"""Races between candidates whose times are known."""

import itertools
import random
from collections.abc import Callable

import pytest

from ai3.tuning import race
from ai3.tuning.race import Candidate


class Host:
    """Runs what takes as long as it is told, by a clock of its own, in given states."""

    def __init__(self, states: str = "a") -> None:
        self.now, self.count = 0.0, 0
        self.random = random.Random(1)
        self.states = itertools.chain(
            states, itertools.repeat(states[-1])
        )  # 'a'part, 's'hared, 'm'ixed

    def takes(self, seconds: float, noise: float = 0.05) -> Callable[[], float]:
        def sample() -> float:
            self.count += 1
            taken = seconds * (1 + noise * self.random.random())
            self.now += taken
            return taken

        return sample

    def watched(self, block: Callable[[], float]) -> tuple[float, str]:
        names = {"a": "apart", "s": "shared", "m": "mixed"}
        return block(), names[next(self.states)]

    def race(self, **times: float) -> dict[str, dict[str, race.Lane]]:
        candidates = {name: Candidate(self.takes(seconds)) for name, seconds in times.items()}
        return race.race(candidates, self.watched, clock=lambda: self.now)


def test_the_fastest_is_left() -> None:
    found = Host().race(a=1e-3, b=1.2e-3, c=1.1e-3, d=9e-3)
    lanes = found["apart"]
    assert min(lanes, key=lambda name: lanes[name].seconds) == "a"
    assert [name for name, lane in lanes.items() if not lane.dropped] == ["a"]


def test_the_hopeless_are_dropped_after_one_sample() -> None:
    lanes = Host().race(a=1e-3, hopeless=5e-3)["apart"]
    assert lanes["hopeless"].dropped
    assert len(lanes["hopeless"].samples) == 1


def test_what_is_close_gets_more_samples() -> None:
    far = Host().race(a=1e-3, b=1.5e-3)["apart"]
    close = Host().race(a=1e-3, b=1.02e-3)["apart"]
    assert len(close["b"].samples) > len(far["b"].samples)


def test_what_is_equal_ends_all_the_same() -> None:
    host = Host()
    lanes = host.race(a=1e-3, b=1e-3)["apart"]
    assert max(len(lane.samples) for lane in lanes.values()) <= 2 * race.MOST


def test_one_candidate_is_timed_too() -> None:
    lanes = Host().race(a=1e-3)["apart"]
    assert 1e-3 <= lanes["a"].seconds <= 1.05e-3


def test_outliers_decide_nothing() -> None:
    host = Host()
    fast, slow = host.takes(1e-3), host.takes(1.3e-3)
    held_up = itertools.cycle([1, 1, 1, 40])
    candidates = {
        "fast": Candidate(lambda: fast() * next(held_up)),
        "slow": Candidate(slow),
    }
    lanes = race.race(candidates, host.watched, clock=lambda: host.now)["apart"]
    assert lanes["fast"].seconds < lanes["slow"].seconds


def test_samples_of_two_states_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "BLOCK", 0.01)
    found = Host("as").race(a=1e-3, b=1e-3)
    assert set(found) == {"apart", "shared"}
    assert found["shared"]["a"].samples is not found["apart"]["a"].samples


def test_what_was_timed_while_the_state_changed_is_thrown_away() -> None:
    found = Host("maaaaaaa").race(a=1e-3, b=1.5e-3)
    assert set(found) == {"apart"}


def test_a_state_that_keeps_changing_is_one() -> None:
    assert set(Host("m").race(a=1e-3, b=1.5e-3)) == {"between"}


def test_another_group_may_be_slower_by_its_allowance() -> None:
    host = Host()
    candidates = {
        "best": Candidate(host.takes(1e-3), group=1, allowance=5e-4),
        "near": Candidate(host.takes(1.3e-3), group=2, allowance=5e-4),
        "second near": Candidate(host.takes(1.45e-3), group=2, allowance=5e-4),
        "far": Candidate(host.takes(1.9e-3), group=3, allowance=5e-4),
    }
    lanes = race.race(candidates, host.watched, clock=lambda: host.now)["apart"]
    left = {name for name, lane in lanes.items() if not lane.dropped}
    assert left == {"best", "near"}


@pytest.mark.parametrize("most", [1, 7])
def test_a_deadline_ends_it_with_what_there_is(most: int) -> None:
    host = Host()
    candidates = {name: Candidate(host.takes(1e-3)) for name in "ab"}
    blocks = itertools.count()
    found = race.race(
        candidates, host.watched, lambda: next(blocks) >= most, clock=lambda: host.now
    )
    assert all(lane.samples for lane in found["apart"].values())
