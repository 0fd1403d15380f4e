"""The states of a machine that timings are taken in."""

import pytest

from ai3 import machine
from ai3.machine import State, Watch


@pytest.mark.parametrize(
    "threads, ratio, name",
    [
        *((2, 2.0, "apart"), (2, 1.7, "apart"), (2, 1.5, "between"), (2, 1.25, "shared")),
        *((2, 0.9, "shared"), (4, 4.0, "apart"), (4, 2.0, "shared"), (1, 1.0, "apart")),
    ],
)
def test_names_the_state_by_the_peaks(threads: int, ratio: float, name: str) -> None:
    assert State(100.0, 100 * ratio, threads).name == name


def test_measures_both_peaks() -> None:
    now = machine.state(2)
    assert 0.5 < now.one < 1000
    assert 0.3 < now.ratio < 4
    assert machine.state(1).name == "apart"


class _Host:
    """A host in one state after the other, and its clock."""

    def __init__(self, *ratios: float) -> None:
        self.ratios, self.now = list(ratios), 0.0

    def measure(self, threads: int | None) -> State:
        self.now += 0.02
        return State(100.0, 100 * self.ratios.pop(0), 2)

    def watch(self) -> Watch:
        return Watch(2, self.measure, lambda: self.now)


def test_a_block_has_the_state_of_both_its_ends() -> None:
    host = _Host(2.0, 2.0, 1.0, 1.0)
    watch = host.watch()
    assert watch(lambda: "a") == ("a", "apart")
    assert watch(lambda: "b") == ("b", "mixed")
    assert watch(lambda: "c") == ("c", "shared")
    assert watch.state.name == "shared"
    assert not host.ratios


def test_a_state_of_long_ago_is_measured_again() -> None:
    host = _Host(2.0, 2.0, 1.0, 1.0)
    watch = host.watch()
    assert watch(lambda: None)[1] == "apart"
    host.now += 1
    assert watch(lambda: None)[1] == "shared"


def test_the_processor_has_a_name() -> None:
    assert machine.processor().strip() == machine.processor() != ""
