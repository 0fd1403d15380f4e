"""Two ways to do what has one name."""

from collections.abc import Sequence
from typing import Any

from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem


class Either(Algorithm):
    """The first where that can, else the second."""

    def __init__(self, first: Algorithm, second: Algorithm) -> None:
        self.name, self._first, self._second = first.name, first, second
        self.layouts = first.layouts & second.layouts

    def refusal(self, p: Problem) -> str:
        return self._both(self._first.refusal(p), self._second.refusal(p))

    def takes(self, p: Problem) -> bool:
        return self._first.takes(p)

    def probe(self, p: Problem) -> str:
        return self._both(self._refusal(self._first, p), self._refusal(self._second, p))

    def workspace_bytes(self, p: Problem) -> int:
        return self._of(p).workspace_bytes(p)

    def cost(self, p: Problem) -> float:
        return self._first.cost(p)

    def stands_for(self, p: Problem) -> str:
        return self._of(p).stands_for(p)

    def fuses(self, p: Problem) -> bool:
        return self._first.fuses(p) and self._second.fuses(p)

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        return self._of(p).plan(p, weights)

    @staticmethod
    def _both(first: str, second: str) -> str:
        return first if second else ""

    def _of(self, p: Problem) -> Algorithm:
        return self._second if self._refusal(self._first, p) else self._first

    def _refusal(self, algorithm: Algorithm, p: Problem) -> str:
        return algorithm.refusal(p) or algorithm.probe(p)
