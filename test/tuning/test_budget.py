"""The knapsack against every choice that there is."""

import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai3.tuning import budget
from ai3.tuning.budget import Choice, solve

numbers = st.integers(0, 9)
choices = st.builds(Choice, numbers.map(float), numbers, numbers, numbers)
networks = st.lists(st.lists(choices, min_size=1, max_size=4), max_size=5)
budgets = st.one_of(st.just(inf), st.integers(0, 40))


def keeps(taken: "tuple[Choice, ...]", memory: float, error: float) -> bool:
    held = sum(c.bytes for c in taken) + max((c.workspace for c in taken), default=0)
    return held <= memory and sum(c.error for c in taken) <= error


@given(networks, budgets, budgets)
def test_finds_the_best_of_all(nodes: "list[list[Choice]]", memory: float, error: float) -> None:
    every = [taken for taken in itertools.product(*nodes) if keeps(taken, memory, error)]
    found = solve(nodes, memory, error)
    if not every:
        assert found is None
        return
    assert found is not None
    taken = tuple(node[pick] for node, pick in zip(nodes, found.picks, strict=True))
    assert keeps(taken, memory, error)
    best = min(sum(c.seconds for c in each) for each in every)
    assert sum(c.seconds for c in taken) == best == found.seconds
    assert found.gap == 0


def test_tells_how_far_it_may_be_from_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_STATES", 3)
    nodes = [[Choice(1 + 0.37 * ((7 * i) % 5), 3 + (i * i) % 11), Choice(9, 0)] for i in range(30)]
    found = solve(nodes, memory=90)
    assert found is not None and found.gap > 0
    monkeypatch.undo()
    best = solve(nodes, memory=90)
    assert best is not None and best.gap == 0
    assert best.seconds >= (1 - found.gap) * found.seconds
