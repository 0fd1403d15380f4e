"""The cheapest of our own kernels."""

from collections.abc import Sequence
from typing import Any

from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem


class Metal(Algorithm):
    """That of the given algorithms which is estimated to take least, of those that do not
    refuse."""

    name = "metal"
    layouts = frozenset({"channels_last"})

    def __init__(self, algorithms: Sequence[Algorithm]) -> None:
        self._algorithms = algorithms

    def best(self, problem: Problem) -> Algorithm:
        able = [each for each in self._algorithms if not each.refusal(problem)]
        return min(able or self._algorithms[:1], key=lambda each: each.cost(problem))

    def refusal(self, problem: Problem) -> str:
        return self.best(problem).refusal(problem)

    def workspace_bytes(self, problem: Problem) -> int:
        return self.best(problem).workspace_bytes(problem)

    def cost(self, problem: Problem) -> float:
        return self.best(problem).cost(problem)

    def stands_for(self, problem: Problem) -> str:
        return self.best(problem).stands_for(problem)

    def fuses(self, problem: Problem) -> bool:
        return self.best(problem).fuses(problem)

    def pads(self, problem: Problem) -> bool:
        return self.best(problem).pads(problem)

    def plan(self, problem: Problem, weights: Sequence[Any]) -> Run:
        return self.best(problem).plan(problem, weights)
