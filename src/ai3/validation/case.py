"""A problem to try an algorithm with, and what draws one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """The shapes and hyper-parameters of a problem; None stands for an absent weight, and
    attributes that are not given have their defaults."""

    op: str
    inputs: tuple[Shape, ...]
    weights: tuple[Shape | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """Of all inputs and weights."""
        return sum(prod(shape) for shape in (*self.inputs, *self.weights) if shape is not None)


class Draw(Protocol):
    """What makes the choices for a case; the first option and the least number are the simplest."""

    def integer(self, low: int, high: int) -> int: ...

    def choice(self, options: Sequence[T]) -> T: ...


class Randomly:
    """Choices by a seeded generator."""

    def __init__(self, seed: object) -> None:
        self.random = Random(str(seed))

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def choice(self, options: Sequence[T]) -> T:
        return self.random.choice(options)
