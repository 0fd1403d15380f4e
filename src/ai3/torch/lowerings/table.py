"""The table of lowerings, and what they add nodes to."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from ai3.graph.expression import Expression
from ai3.torch.stand_ins import Value

Int = int | Expression


class Builder(Protocol):
    """What lowerings add nodes to; see `capture.Capture`."""

    @property
    def dtype(self) -> torch.dtype: ...
    def real(self, dtype: torch.dtype) -> torch.dtype: ...
    def dtype_of(self, x: Value) -> torch.dtype: ...
    def add(
        self,
        op: str,
        inputs: Sequence[Any],
        attributes: Any = ...,
        weights: Any = ...,
        kind: str = ...,
    ) -> Value: ...
    def value(self, item: Any) -> Value: ...
    def computed(self, value: Expression, dtype: torch.dtype | None = ...) -> Value: ...
    def check(self, condition: Expression) -> None: ...


Lowering = Callable[..., Any]
TABLE: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    def register(lower: Lowering) -> Lowering:
        TABLE.update(dict.fromkeys(names, lower))
        return lower

    return register
