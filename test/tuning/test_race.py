"""Races between candidates whose times are known."""

import itertools
import random
from collections.abc import Callable, Mapping

import pytest

from ai3.tuning import race


class Host:
    """Runs what takes as long as it is told, by a clock of its own, in given states."""

    def __init__(self, states: str = "a") -> None:
        self.now = 0.0
        self.runs: list[dict[str, str]] = []
        self.random = random.Random(1)
        self.states = itertools.chain(
            states, itertools.repeat(states[-1])
        )  # 'a'part, 's'hared, 'm'ixed

    def takes(self, seconds: float, noise: float = 0.05) -> Callable[[], float]:
        def sample() -> float:
            taken = seconds * (1 + noise * self.random.random())
            self.now += taken
            return taken

        return sample

    def watched(self, block: Callable[[], None]) -> tuple[None, str]:
        names = {"a": "apart", "s": "shared", "m": "mixed"}
        return block(), names[next(self.states)]  # type: ignore[func-returns-value]

    def raced(
        self, *places: dict[str, float], deadline: Callable[[], bool] = lambda: False
    ) -> dict[str, race.Lanes]:
        """Candidates of places, numbered, that take so many seconds."""
        takes = {
            (str(i), name): self.takes(seconds)
            for i, place in enumerate(places)
            for name, seconds in place.items()
        }
        return self.raced_by(takes, deadline)

    def raced_by(
        self,
        takes: Mapping[tuple[str, str], Callable[[], float]],
        deadline: Callable[[], bool] = lambda: False,
    ) -> dict[str, race.Lanes]:
        places: dict[str, list[str]] = {}
        for place, name in takes:
            places.setdefault(place, []).append(name)

        def run(names: Mapping[str, str]) -> dict[str, float]:
            self.runs.append(dict(names))
            return {place: takes[place, name]() for place, name in names.items()}

        return race.race(places, run, self.watched, deadline, clock=lambda: self.now)


def left(lanes: Mapping[str, race.Lane]) -> list[str]:
    return [name for name, lane in lanes.items() if not lane.dropped]


def test_the_fastest_is_left() -> None:
    lanes = Host().raced({"a": 1e-3, "b": 1.2e-3, "c": 1.1e-3, "d": 9e-3})["apart"]["0"]
    assert min(lanes, key=lambda name: lanes[name].seconds) == "a"
    assert left(lanes) == ["a"]


def test_the_hopeless_are_dropped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "BLOCK", 0.0)
    lanes = Host().raced({"a": 1e-3, "hopeless": 5e-3})["apart"]["0"]
    assert lanes["hopeless"].dropped
    assert len(lanes["hopeless"].samples) == race.FIRST_LOOK


def test_what_is_close_gets_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "BLOCK", 0.0)
    far = Host().raced({"a": 1e-3, "b": 1.5e-3})["apart"]["0"]
    close = Host().raced({"a": 1e-3, "b": 1.025e-3})["apart"]["0"]
    assert len(close["b"].samples) > len(far["b"].samples)


def test_what_is_equal_ends_all_the_same() -> None:
    lanes = Host().raced({"a": 1e-3, "b": 1e-3})["apart"]["0"]
    assert len(left(lanes)) == 1


def test_one_candidate_is_timed_too() -> None:
    lanes = Host().raced({"a": 1e-3})["apart"]["0"]
    assert 1e-3 <= lanes["a"].seconds <= 1.05e-3
    assert len(lanes["a"].samples) >= race.FIRST_TEST


def test_places_are_raced_for_in_the_same_runs() -> None:
    host = Host()
    few = {f"c{i}": (1 + i) * 1e-3 for i in range(2)}
    many = {f"c{i}": (9 - i) * 1e-3 for i in range(8)}
    lanes = host.raced(few, many, {"only": 1e-3})["apart"]
    assert left(lanes["0"]) == ["c0"] and left(lanes["1"]) == ["c7"]
    assert {len(run) for run in host.runs} == {3}
    # The round that is longest asks for as many runs as the place with the most candidates has.
    first = host.runs[:8]
    assert sorted(run["1"] for run in first) == sorted(many)
    assert [run["0"] for run in first].count("c0") == 4


def test_the_order_of_the_runs_goes_round() -> None:
    host = Host()
    host.raced({"a": 1e-3, "b": 1e-3})
    assert [run["0"] for run in host.runs[:4]] == ["a", "b", "b", "a"]


def test_outliers_decide_nothing() -> None:
    host = Host()
    fast, slow = host.takes(1e-3), host.takes(1.3e-3)
    held_up = itertools.cycle([1, 1, 1, 40])
    takes = {("", "fast"): lambda: fast() * next(held_up), ("", "slow"): slow}
    lanes = host.raced_by(takes)["apart"][""]
    assert lanes["fast"].seconds < lanes["slow"].seconds


def test_samples_of_two_states_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "BLOCK", 0.01)
    found = Host("as").raced({"a": 1e-3, "b": 1e-3})
    assert set(found) == {"apart", "shared"}
    assert found["shared"]["0"]["a"].samples is not found["apart"]["0"]["a"].samples


def test_what_was_timed_while_the_state_changed_is_thrown_away() -> None:
    found = Host("maaaaaaa").raced({"a": 1e-3, "b": 1.5e-3})
    assert set(found) == {"apart"}


def test_a_state_that_keeps_changing_is_one() -> None:
    assert set(Host("m").raced({"a": 1e-3, "b": 1.5e-3})) == {"between"}


@pytest.mark.parametrize("most", [0, 1, 2, 7])
def test_a_deadline_ends_it_with_what_there_is(most: int) -> None:
    host = Host()
    found = host.raced({"a": 1e-3, "b": 1e-3}, deadline=lambda: len(host.runs) >= most)
    assert len(host.runs) == max(1, most)
    timed = found["apart"]["0"]
    assert list(timed) == (["a"] if most < 2 else ["a", "b"])
    assert all(lane.samples for lane in timed.values())
