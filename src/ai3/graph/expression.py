"""Integers that depend on the shapes of values: known once the inputs' shapes are."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ai3.graph import resampling
from ai3.graph.bounds import MOST_DIMS, MOST_ELEMENTS, Budget, bounded
from ai3.graph.windows import window_mask

Shape = tuple[int, ...]


def _ones(count: int) -> list[int]:
    return [1] * bounded(count, most=MOST_DIMS)


def _dims(rank: int) -> list[int]:
    return list(range(bounded(rank, most=MOST_DIMS)))


def _product(a: Any, b: Any) -> Any:
    """Of numbers; or a short tuple some times, as (1,) * n."""
    for items, times in ((a, b), (b, a)):
        if isinstance(items, tuple | str):
            bounded(len(items), times, most=1 << 10)
    return a * b


def _array(make: Callable[..., Any], counts: Callable[..., Sequence[float]]) -> Callable[..., Any]:
    """`make`, of at most as many elements as an array may have: the product of `counts`."""

    def within_bounds(*arguments: Any) -> Any:
        bounded(*(math.ceil(count) for count in counts(*arguments)), most=MOST_ELEMENTS)
        return make(*arguments)

    return within_bounds


def _range_length(start: float, stop: float | None = None, step: float = 1) -> float:
    return (start if stop is None else stop - start) / step


def _swapped(rank: int, first: int, second: int) -> Shape:
    """The permutation that exchanges two of `rank` dimensions."""
    order = _dims(rank)
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def _moved(rank: int, source: int, destination: int) -> Shape:
    """The permutation that moves one of `rank` dimensions elsewhere."""
    order = [dim for dim in _dims(rank) if dim != source % rank]
    order.insert(destination % rank, source % rank)
    return tuple(order)


def _chunk(extent: int, chunks: int, index: int) -> tuple[int, int]:
    """Where chunk `index` starts and stops, as torch.chunk cuts."""
    size = max(1, -(-extent // chunks))
    return min(index * size, extent), min((index + 1) * size, extent)


def _unsqueezed(shape: Shape, dim: int) -> Shape:
    at = dim % (len(shape) + 1)
    return (*shape[:at], 1, *shape[at:])


def _squeezed(shape: Shape, dims: int | Sequence[int] | None) -> Shape:
    """Without the given dimensions, or all, that are of extent 1."""
    given = range(len(shape)) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {dim % len(shape) for dim in given}
    return tuple(n for dim, n in enumerate(shape) if dim not in gone or n != 1)


def _unflattened(shape: Shape, dim: int, sizes: Shape) -> Shape:
    at = dim % len(shape)
    return (*shape[:at], *sizes, *shape[at + 1 :])


def _stop(index: int) -> int | None:
    """Where the slice of one element ends."""
    return index + 1 or None


def _put(extent: int, start: int | None, stop: int | None, step: int | None) -> Shape:
    """For each element of a dimension, where it lies in that dimension followed by what a slice of
    it becomes."""
    places = list(range(bounded(extent)))
    for i, at in enumerate(range(extent)[slice(start, stop, step)]):
        places[at] = extent + i
    return tuple(places)


def _indexed_at(dims: Shape, ranks: Shape) -> int:
    """How many dimensions come before those of integers, of these ranks, that index `dims`: as many
    as before theirs, where they are neighbours. One integer alone chooses its slice first."""
    alone = [dim for dim, rank in zip(dims, ranks, strict=True) if rank == 0]
    left = [dim - sum(a < dim for a in alone) for dim in dims if dim not in alone]
    return left[0] if left and left[-1] - left[0] == len(left) - 1 else 0


def _indexed_order(rank: int, dims: Shape, ranks: Shape) -> Shape:
    """The permutation that brings `dims` together."""
    rest = [dim for dim in _dims(rank) if dim not in dims]
    at = _indexed_at(dims, ranks)
    return (*rest[:at], *dims, *rest[at:])


def _triangle(rows: int, columns: int, diagonal: int) -> "np.ndarray[Any, Any]":
    """Whether an element is on or below a diagonal."""
    return np.tri(rows, columns, diagonal, dtype=bool)


def _windows(extent: int, size: int, step: int, dilation: int = 1, inner: bool = True) -> Shape:
    """The places of all windows along a dimension, window by window or, if not `inner`, place by
    place."""
    count = (extent - dilation * (size - 1) - 1) // step + 1
    bounded(count, size)
    starts, taps = [w * step for w in range(count)], [k * dilation for k in range(size)]
    outer, within = (starts, taps) if inner else (taps, starts)
    return tuple([a + b for a in outer for b in within])


def _convolution_padding(padding: Any, kernel: Shape, dilation: Any) -> Shape:
    """What a convolution adds to an image, as torch's `pad` takes it: left, right, top, bottom."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        steps = (dilation, dilation) if isinstance(dilation, int) else dilation
        totals = [d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
        (top, left), (rows, columns) = (t // 2 for t in totals), totals
        return (left, columns - left, top, rows - top)
    rows, columns = (padding, padding) if isinstance(padding, int) else (padding[0], padding[-1])
    return (columns, columns, rows, rows)


def _pooled(extent: int, count: int, size: int, step: int, padding: int, dilation: int) -> Shape:
    """The places of `count` windows along a padded dimension, place by place; what lies in the
    padding is the next place of the window that does not."""
    bounded(count, size)
    rows = []
    for start in range(-padding, count * step - padding, step):
        row = [at for k in range(size) if 0 <= (at := start + k * dilation) < extent]
        if not row:
            raise ValueError("a window lies in the padding alone")
        before = sum(start + k * dilation < 0 for k in range(size))
        rows.append([*[row[0]] * before, *row, *[row[-1]] * (size - before - len(row))])
    return tuple(place for places in zip(*rows, strict=True) for place in places)


def _bins(extent: int, count: int, inner: bool = True) -> Shape:
    """The places of the windows by which torch pools adaptively, each filled to the longest with
    its last place: window i is floor(i * extent / count) to ceil((i + 1) * extent / count). Window
    by window or, if not `inner`, place by place."""
    bounds = [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(bounded(count))]
    longest = max((stop - start for start, stop in bounds), default=0)
    bounded(count, longest)
    if inner:
        return tuple(min(start + k, stop - 1) for start, stop in bounds for k in range(longest))
    return tuple(min(start + k, stop - 1) for k in range(longest) for start, stop in bounds)


def _repeated(shape: Shape, times: Shape) -> tuple[Shape, Shape, Shape]:
    """The shapes through which an array goes that is repeated so often along its dimensions: each
    after one of extent 1, that expanded, both as one."""
    shape = (1,) * (len(times) - len(shape)) + tuple(shape)
    times = (1,) * (len(shape) - len(times)) + tuple(times)
    pairs = list(zip(times, shape, strict=True))
    apart = tuple(n for _, extent in pairs for n in (1, extent))
    return apart, tuple(n for pair in pairs for n in pair), tuple(t * n for t, n in pairs)


def _shuffle(shape: Shape, r: int, what: str) -> Shape:
    """Of torch.pixel_shuffle and pixel_unshuffle of (*, C, H, W) the shape in which parts are
    dimensions of their own, the permutation, and the result's shape."""
    *outer, c, h, w = shape
    n = len(outer)
    found = {
        "split": (*outer, c // (r * r), r, r, h, w),
        "order": (*range(n), n, n + 3, n + 1, n + 4, n + 2),
        "joined": (*outer, c // (r * r), h * r, w * r),
        "unsplit": (*outer, c, h // r, r, w // r, r),
        "unorder": (*range(n), n, n + 2, n + 4, n + 1, n + 3),
        "unjoined": (*outer, c * r * r, h // r, w // r),
    }
    return found[what]


def _power(number: float, exponent: float) -> float:
    if abs(exponent) > 64 or abs(number) > 1 << 64:
        raise ValueError(f"{number} to the power of {exponent}")
    return float(number**exponent) if exponent < 0 else number**exponent


def _prod(items: Sequence[float]) -> float:
    bounded(len(items), most=MOST_DIMS)
    return math.prod(items)


def _choose(condition: Any, then: Any, otherwise: Any) -> Any:
    return then if condition else otherwise


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(operator, name)
        for name in ("add", "sub", "truediv", "floordiv", "mod", "neg", "getitem")
    },
    "mul": _product,
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: getattr(operator, name) for name in ("and_", "or_", "not_")},
    "pow": _power,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
    "sqrt": math.sqrt,
    "log": math.log,
    "log2": math.log2,
    "int": int,
    "float": float,
    "round": round,
    "abs": abs,
    "min": min,
    "max": max,
    "sum": sum,
    "len": len,
    "tuple": lambda *items: tuple(items),
    "slice": slice,
    "prod": _prod,
    "choose": _choose,
    "swapped": _swapped,
    "moved": _moved,
    "reversed": lambda rank: tuple(reversed(_dims(rank))),
    "unsqueezed": _unsqueezed,
    "squeezed": _squeezed,
    "unflattened": _unflattened,
    "chunk": _chunk,
    "stop": _stop,
    "put": _put,
    "inverse": lambda order: tuple(sorted(range(len(order)), key=lambda i: order[i] % len(order))),
    "ones after": lambda shape, rank: (*shape, *_ones(rank - len(shape))),
    "batched": lambda shape, rank: (*_ones(rank - len(shape)), *shape),
    "per channel": lambda channels, shape: (channels, *([1] * (len(shape) - 2))),
    "full": _array(np.full, lambda shape, _: (shape,) if isinstance(shape, int) else shape),
    "arange": _array(np.arange, lambda *bounds: (_range_length(*bounds),)),
    "linspace": _array(np.linspace, lambda start, stop, steps: (steps,)),
    "eye": _array(np.eye, lambda rows, columns=None: (rows, rows if columns is None else columns)),
    "tri": _array(_triangle, lambda rows, columns, _: (rows, columns)),
    "each repeated": lambda extent, times: tuple(i // times for i in range(bounded(extent, times))),
    "windows": _windows,
    "planes": lambda count, places: tuple(
        0 if place is None else j + place
        for j in range(bounded(count, len(places)) and count)
        for place in places
    ),
    "bins": _bins,
    "pooled": _pooled,
    "unpooled": lambda shape, size: (*shape[: len(shape) - len(size)], *size),
    "convolution padding": _convolution_padding,
    "last": lambda shape, rank: tuple(shape[len(shape) - rank :]),
    "windows of": lambda extent, size, step: (extent - size) // step + 1,
    "repeat apart": lambda shape, times: _repeated(shape, times)[0],
    "repeat expanded": lambda shape, times: _repeated(shape, times)[1],
    "repeat joined": lambda shape, times: _repeated(shape, times)[2],
    "shuffle": _shuffle,
    "grid": lambda shapes, i: tuple(shapes[i][0] if k == i else 1 for k in range(len(shapes))),
    "grid all": lambda shapes: tuple(shape[0] for shape in shapes),
    "joined": lambda shape, dim, count=2: (
        *shape[:dim],
        _prod(shape[dim : dim + count]),
        *shape[dim + count :],
    ),
    "along": lambda rank, dim, count: tuple(
        count if d == dim % rank else 1 for d in range(bounded(rank, most=MOST_DIMS))
    ),
    "along both": lambda shape, other, dim: tuple(
        own if d == dim % len(shape) or n == 1 else n
        for d, (own, n) in enumerate(zip(shape, other, strict=True))
    ),
    "indexed at": _indexed_at,
    "indexed order": _indexed_order,
    "indexed shape": lambda shape, dim, index: (*shape[:dim], *index, *shape[dim + 1 :]),
    "window mask": _array(window_mask, lambda height, width, window, _: (height, width, *window)),
    "smoothing": resampling.smoothing,
    "folded": resampling.folded,
    "affine places": _array(
        resampling.affine_places, lambda extents, _: (len(extents) + 1, *extents)
    ),
    "grid shape": lambda count, extents: (count, *extents, len(extents)),
    "grid sizes": lambda shape: tuple(reversed(shape[2:])),
    "grid steps": resampling.grid_steps,
    "grid corners": _array(
        resampling.grid_corners, lambda dims, _, taps: (dims, *[taps] * bounded(dims, most=3))
    ),
    "sampled": lambda places, channels: (*places[:-1], channels),
    "image starts": _array(
        lambda count, pixels: np.arange(count).reshape(-1, 1, 1) * pixels, lambda count, _: (count,)
    ),
}
"""What an expression may compute, by name: a file's graph can name nothing else."""

ARRAYS = (
    *("full", "arange", "linspace", "eye", "tri", "window mask", "smoothing"),
    *("affine places", "grid corners", "image starts"),
)
"""Those that make an array: what an attribute is, nothing to compute with further."""

TAKE_TEXT = ("shuffle", "smoothing", "convolution padding")

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and_": "&",
}


@dataclass(frozen=True, eq=False)
class Expression:
    """`function` of `arguments`, which may hold expressions; "shape" of a value's name is a leaf.

    Python's arithmetic and indexing make larger ones.
    """

    function: str
    arguments: tuple[Any, ...]

    def __add__(self, other: Any) -> "Expression":
        return Expression("add", (self, other))

    def __radd__(self, other: Any) -> "Expression":
        return Expression("add", (other, self))

    def __sub__(self, other: Any) -> "Expression":
        return Expression("sub", (self, other))

    def __rsub__(self, other: Any) -> "Expression":
        return Expression("sub", (other, self))

    def __mul__(self, other: Any) -> "Expression":
        return Expression("mul", (self, other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> "Expression":
        return Expression("floordiv", (self, other))

    def __mod__(self, other: Any) -> "Expression":
        return Expression("mod", (self, other))

    def __neg__(self) -> "Expression":
        return Expression("neg", (self,))

    def __getitem__(self, index: Any) -> "Expression":
        return Expression("getitem", (self, index))

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("how many values an expression has is not known")

    def __str__(self) -> str:
        name, arguments = self.function, self.arguments
        if name == "shape":
            return f"{arguments[0]}.shape"
        if name == "getitem":
            return f"{text(arguments[0])}[{text(arguments[1])}]"
        if name in _SIGNS:
            return f"({text(arguments[0])} {_SIGNS[name]} {text(arguments[1])})"
        return f"{name}({', '.join(map(text, arguments))})"


def shape_of(value: str) -> Expression:
    """The shape of a value, by its name."""
    return Expression("shape", (value,))


def evaluate(item: Any, shapes: Mapping[str, Shape], budget: Budget | None = None) -> Any:
    """`item` with every expression in it replaced by what it is for values of these shapes, within
    the budget."""
    if isinstance(item, Expression):
        if item.function == "shape":
            return shapes[item.arguments[0]]
        if budget is None:
            budget = Budget()
        made = FUNCTIONS[item.function](*(evaluate(a, shapes, budget) for a in item.arguments))
        budget.spend_on(made)
        return made
    if isinstance(item, slice):
        return slice(*(evaluate(a, shapes, budget) for a in (item.start, item.stop, item.step)))
    if isinstance(item, tuple | list):
        return tuple(evaluate(part, shapes, budget) for part in item)
    return item


def renamed(item: Any, names: Mapping[str, str]) -> Any:
    """`item` with the values that its expressions read under their new names."""
    if isinstance(item, Expression):
        if item.function == "shape":
            return shape_of(names.get(item.arguments[0], item.arguments[0]))
        return Expression(item.function, tuple(renamed(a, names) for a in item.arguments))
    if isinstance(item, tuple | list):
        return tuple(renamed(part, names) for part in item)
    return item


def reads(item: Any) -> Iterator[str]:
    """The names of the values whose shapes `item` depends on."""
    if isinstance(item, Expression):
        if item.function == "shape":
            yield item.arguments[0]
        else:
            for argument in item.arguments:
                yield from reads(argument)
    elif isinstance(item, slice):
        yield from reads((item.start, item.stop, item.step))
    elif isinstance(item, tuple | list):
        for part in item:
            yield from reads(part)


def depends(item: Any) -> bool:
    """Whether `item` holds an expression."""
    return isinstance(item, Expression) or (
        (isinstance(item, tuple | list) and any(map(depends, item)))
        or (isinstance(item, slice) and any(map(depends, (item.start, item.stop, item.step))))
    )


def text(item: Any) -> str:
    """As it is written in Python, without parentheses around the whole."""
    if isinstance(item, Expression):
        return str(item).removeprefix("(").removesuffix(")") if _plain(item) else str(item)
    if isinstance(item, slice):
        parts = ["" if part is None else text(part) for part in (item.start, item.stop)]
        step = "" if item.step is None else f":{text(item.step)}"
        return ":".join(parts) + step
    if isinstance(item, tuple | list):
        return f"({', '.join(map(text, item))}{',' * (len(item) == 1)})"
    if isinstance(item, float):
        return f"{item:g}"
    return str(item)


def _plain(expression: Expression) -> bool:
    """Whether it is one sign between two things without parentheses."""
    return expression.function in _SIGNS and not any(
        isinstance(a, Expression) and a.function in _SIGNS for a in expression.arguments
    )
