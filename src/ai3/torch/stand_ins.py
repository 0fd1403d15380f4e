"""What stands for the tensors while a traced network is interpreted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import UnionType
from typing import Any


class Refusal(Exception):
    """One node that cannot be captured, with the reason."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that the graph computes; views of one another have the same `memory`. `dtype` is
    torch's where it is known to be other than the network's floating-point type, `image` the same
    elements as an `Image` where the graph has them so. `view` tells of what it is a part or another
    shape. `unsure` are inputs of the network whose dtype nobody said: it may have theirs."""

    name: str
    memory: object = field(default_factory=object)
    dtype: Any = None
    image: "Image | None" = None
    view: "View | None" = None
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class View:
    """Of the value `base`; `written` is what that becomes where another value takes the view's
    place, None where no single place in it does."""

    base: Value
    written: Callable[[Value], Value] | None


@dataclass(frozen=True, eq=False)
class Image:
    """A tensor of `dims` spatial dimensions as images that operations of two take: (N, C, L) as
    (N, C, 1, L), and (N, C, D, H, W) as N * D images (C, H, W). `rank` is the tensor's own."""

    dims: int
    value: Value
    rank: Any
    batch: Any = None
    depth: Any = None


@dataclass(frozen=True, eq=False)
class Pieces:
    """`count` tensors, which depends on shapes: `get(i)` is one of them."""

    get: Callable[[Any], Value]
    count: Any

    def at(self, index: int) -> Value:
        """One of them, counted from the last where the index is negative."""
        return self.get(index if index >= 0 else self.count + index)


def holds(item: Any, kind: type | UnionType) -> bool:
    """Whether `item` is, or holds in sequences, dicts and slices, something of a kind."""
    return any(isinstance(leaf, kind) for leaf in leaves(item))


def values_in(item: Any) -> Iterator[Value]:
    return (leaf for leaf in leaves(item) if isinstance(leaf, Value))


def mapped(item: Any, kind: type | UnionType, change: Callable[[Any], Any]) -> Any:
    """`item` with everything of a kind in it changed."""
    if isinstance(item, kind):
        return change(item)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(mapped(part, kind, change) for part in item))
    if isinstance(item, tuple):
        return tuple(mapped(part, kind, change) for part in item)
    if isinstance(item, list):
        return [mapped(part, kind, change) for part in item]
    if isinstance(item, dict):
        return {key: mapped(part, kind, change) for key, part in item.items()}
    if isinstance(item, slice):
        return slice(*(mapped(part, kind, change) for part in (item.start, item.stop, item.step)))
    return item


def leaves(item: Any) -> Iterator[Any]:
    if isinstance(item, tuple | list):
        for part in item:
            yield from leaves(part)
    elif isinstance(item, dict):
        for part in item.values():
            yield from leaves(part)
    elif isinstance(item, slice):
        yield from leaves((item.start, item.stop, item.step))
    else:
        yield item
