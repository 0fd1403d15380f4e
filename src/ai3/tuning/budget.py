"""The fastest choice within budgets: a knapsack with one choice for each node.

Minimise the sum of times, where the sum of bytes and the largest workspace together, and the sum of
squared errors, keep within their budgets: the multiple-choice knapsack problem with two resources
(Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, chapter 11). It is solved once for each
size that the largest workspace may have, by dynamic programming over the choices that no other
dominates, which are dropped where a bound tells that they cannot lead to the best. The bound is
Lagrange's: both resources are bought at prices, found by a subgradient method. The result is exact
as long as no more than MOST_STATES choices are left at a time; beyond that the most promising are
kept, and `gap` tells how far from the optimum that may be.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

MOST_STATES = 4000
STEPS = 60


@dataclass(frozen=True)
class Choice:
    """What one choice for a node costs: seconds; bytes that stay, and those while it runs; the
    square of what it adds to the error of the result."""

    seconds: float
    bytes: float = 0.0
    workspace: float = 0.0
    error: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Which choice each node takes, what that costs in seconds, and by how much of that a better
    one may be less."""

    picks: tuple[int, ...]
    seconds: float
    gap: float


def solve(
    nodes: Sequence[Sequence[Choice]], memory: float = inf, error: float = inf
) -> Solution | None:
    """The fastest choices; None where none keeps within the budgets. `error` is a square."""
    caps = [inf]
    if memory < inf:
        caps = sorted({choice.workspace for node in nodes for choice in node})
        least = max(min(choice.workspace for choice in node) for node in nodes) if nodes else 0
        caps = [cap for cap in caps if cap >= least] or [0.0]
    best: Solution | None = None
    for cap in caps:
        allowed = [[i for i, c in enumerate(node) if c.workspace <= cap] for node in nodes]
        states = [
            [(i, node[i].seconds, node[i].bytes, node[i].error) for i in of]
            for node, of in zip(nodes, allowed, strict=True)
        ]
        left = memory - cap if memory < inf else inf
        found = _Knapsack(states, left, error).solve(inf if best is None else best.seconds)
        if found is not None and (best is None or found.seconds < best.seconds):
            best = found
    return best


_Item = tuple[int, float, float, float]
"""Position among the node's choices, seconds, bytes, error."""


@dataclass(frozen=True)
class _State:
    seconds: float
    bytes: float
    error: float
    picks: "tuple[int, ...]"


class _Knapsack:
    def __init__(self, nodes: Sequence[Sequence[_Item]], memory: float, error: float) -> None:
        self._nodes = [_undominated(node) for node in nodes]
        self._limits = (memory, error)
        # Each resource in units of its budget, so that steps suit both.
        self._units = tuple(limit if 0 < limit < inf else 1.0 for limit in self._limits)

    def solve(self, most: float) -> Solution | None:
        """The best of fewer seconds than `most`."""
        for k in (0, 1):
            if sum(min(item[2 + k] for item in node) for node in self._nodes) > self._limits[k]:
                return None
        prices, bound, feasible = self._priced()
        upper = min(most, feasible)
        # What the nodes from i on cost at least, at these prices.
        rest = [0.0]
        for node in reversed(self._nodes):
            rest.append(rest[-1] + min(self._cost(item, prices) for item in node))
        rest.reverse()
        budget = sum(
            price * limit for price, limit in zip(prices, self._limits, strict=True) if price
        )
        exact = True
        states = [_State(0.0, 0.0, 0.0, ())]
        for i, node in enumerate(self._nodes):
            made = [
                _State(s.seconds + t, s.bytes + b, s.error + e, (*s.picks, at))
                for s in states
                for at, t, b, e in node
                if s.bytes + b <= self._limits[0] * (1 + 1e-12)
                and s.error + e <= self._limits[1] * (1 + 1e-12)
            ]

            def least(s: _State, i: int = i) -> float:
                paid = prices[0] * s.bytes + prices[1] * s.error
                return s.seconds + paid + rest[i + 1] - budget

            made = [s for s in made if least(s) <= upper * (1 + 1e-9)]
            states = _front(made)
            if len(states) > MOST_STATES:
                exact = False
                states = sorted(states, key=least)[:MOST_STATES]
        if not states:
            return None
        best = min(states, key=lambda s: s.seconds)
        gap = 0.0 if exact or best.seconds <= 0 else max(0.0, 1 - bound / best.seconds)
        return Solution(best.picks, best.seconds, gap)

    def _cost(self, item: _Item, prices: Sequence[float]) -> float:
        return item[1] + prices[0] * item[2] + prices[1] * item[3]

    def _priced(self) -> tuple[tuple[float, float], float, float]:
        """Prices of a byte and of error, the bound that they give, and the seconds of the best
        choice within the budgets that was met."""
        prices = best_prices = (0.0, 0.0)
        bound, feasible = -inf, inf
        for step in range(STEPS):
            chosen = [min(node, key=lambda item: self._cost(item, prices)) for node in self._nodes]
            used = self._used(chosen)
            value = sum(item[1] for item in chosen)
            over = [0.0, 0.0]
            for k, limit in enumerate(self._limits):
                if limit < inf:
                    over[k] = used[k] - limit
                    value += prices[k] * over[k]
            if value > bound:
                bound, best_prices = value, prices
            if step % 4 == 0 or feasible == inf:
                feasible = min(feasible, self._repaired(chosen))
            # Polyak's step, in units of the budgets.
            slopes = [over[k] / self._units[k] for k in (0, 1)]
            norm = sum(slope * slope for slope in slopes)
            if norm == 0:
                break
            goal = feasible if feasible < inf else 1.1 * abs(value) + 1e-30
            rate = 1.5 / (1 + step / 10) * max(goal - value, 1e-3 * abs(goal)) / norm
            prices = (
                max(0.0, prices[0] + rate * slopes[0] / self._units[0]),
                max(0.0, prices[1] + rate * slopes[1] / self._units[1]),
            )
        return best_prices, bound, feasible

    def _used(self, chosen: Sequence[_Item]) -> list[float]:
        return [sum(item[2 + k] for item in chosen) for k in (0, 1)]

    def _repaired(self, chosen: list[_Item]) -> float:
        """The seconds of choices within the budgets that are near these, changed one by one; inf
        where that leads to none."""
        chosen = list(chosen)

        def excess(used: Sequence[float]) -> float:
            return sum(
                max(0.0, used[k] - limit) / self._units[k]
                for k, limit in enumerate(self._limits)
                if limit < inf
            )

        used = self._used(chosen)
        while True:
            now, best = excess(used), (inf, -1, chosen[0] if chosen else None)
            for i, node in enumerate(self._nodes):
                for item in node:
                    slower = item[1] - chosen[i][1]
                    gain = now - excess([used[k] + item[2 + k] - chosen[i][2 + k] for k in (0, 1)])
                    if now > 0:
                        worth = slower / gain if gain > 1e-15 else inf
                    else:
                        worth = slower if gain == 0 and slower < 0 else inf
                    if worth < best[0]:
                        best = (worth, i, item)
            if best[1] < 0 or best[2] is None:
                break
            used = [used[k] + best[2][2 + k] - chosen[best[1]][2 + k] for k in (0, 1)]
            chosen[best[1]] = best[2]
        return sum(item[1] for item in chosen) if excess(self._used(chosen)) == 0 else inf


def _undominated(node: Sequence[_Item]) -> list[_Item]:
    return [
        item
        for k, item in enumerate(node)
        if not any(
            all(a <= b for a, b in zip(other[1:], item[1:], strict=True))
            and (other[1:] != item[1:] or j < k)
            for j, other in enumerate(node)
            if j != k
        )
    ]


def _front(states: list[_State]) -> list[_State]:
    """Those that no other is as good as in all three. By seconds, with a staircase of the bytes and
    errors of those before."""
    states.sort(key=lambda s: (s.seconds, s.bytes, s.error))
    kept: list[_State] = []
    stairs_bytes: list[float] = []  # increasing, with errors that decrease
    stairs_errors: list[float] = []
    for state in states:
        at = bisect.bisect_right(stairs_bytes, state.bytes)
        if at and stairs_errors[at - 1] <= state.error:
            continue
        kept.append(state)
        end = at
        while end < len(stairs_bytes) and stairs_errors[end] >= state.error:
            end += 1
        stairs_bytes[at:end] = [state.bytes]
        stairs_errors[at:end] = [state.error]
    return kept
