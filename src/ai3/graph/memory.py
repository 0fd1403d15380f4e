"""Where each value of a graph lies in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import TypeAlias

from ai3 import _core
from ai3.graph.choose_layouts import same_memory
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.ops import OPERATIONS

ALIGNMENT = 64

Location: TypeAlias = tuple[str, int, int]
"""A place ("input", "output", "constant" or "arena"), which of them, and a byte in it."""


@dataclass(frozen=True)
class Memory:
    """The location of every value, the nodes that have something to do, and the outputs that are
    to be copied from where they lie: (value, output)."""

    locations: Mapping[str, Location]
    steps: tuple[Node, ...]
    copies: tuple[tuple[str, int], ...]
    arena_bytes: int


def place_values(graph: Graph, algorithms: Mapping[str, str]) -> Memory:
    """Place the values of a specialized graph whose nodes run the `algorithms`.

    Values share memory where nothing has to be computed or copied then: views and dense slices
    with what they show, what is concatenated with the result, the input of an operation that
    works in place with its output.
    """
    aliases = _Aliases()
    steps = _place_views(graph, algorithms, aliases)
    steps = _place_concatenations(graph, steps, algorithms, aliases)
    fixed: dict[str, Location] = {name: ("input", i, 0) for i, name in enumerate(graph.inputs)}
    constants = [node.name for node in graph.nodes if node.op == CONSTANT]
    fixed.update((name, ("constant", i, 0)) for i, name in enumerate(constants))
    _work_in_place(graph, steps, algorithms, aliases, fixed)

    copies = []
    for i, name in enumerate(graph.outputs):
        root, offset = aliases.of(name)
        if root in fixed or offset or graph.specs[root].bytes != graph.specs[name].bytes:
            copies.append((name, i))
        else:
            fixed[root] = ("output", i, 0)

    lifetimes = _lifetimes(graph, steps, aliases, fixed)
    offsets, arena_bytes = plan_memory(list(lifetimes.values()))
    fixed.update(
        (name, ("arena", 0, offset)) for name, offset in zip(lifetimes, offsets, strict=True)
    )

    def location(name: str) -> Location:
        root, offset = aliases.of(name)
        place, index, start = fixed[root]
        return place, index, start + offset

    names = {name for node in steps for name in (node.name, *node.inputs)}
    names.update(name for name, _ in copies)
    return Memory(
        {name: location(name) for name in names}, tuple(steps), tuple(copies), arena_bytes
    )


@dataclass(frozen=True)
class Lifetime:
    """A value of `bytes` that is written by step `first` and last read by step `last`."""

    bytes: int
    first: int
    last: int


def plan_memory(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets such that no two values that live at the same time overlap, and the arena's size.

    Greedy by size (Pisarchyk, Lee, "Efficient Memory Management for Deep Neural Net Inference",
    arXiv 2001.03288): the largest value first, each at the lowest offset that is free during its
    life.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for index in sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i].bytes):
        life = lifetimes[index]
        taken = sorted(
            (offsets[other], lifetimes[other].bytes)
            for other in placed
            if lifetimes[other].first <= life.last and life.first <= lifetimes[other].last
        )
        offset = 0
        for start, size in taken:
            if offset + life.bytes <= start:
                break
            offset = max(offset, _align(start + size))
        offsets[index] = offset
        placed.append(index)
    size = max(
        (offset + life.bytes for offset, life in zip(offsets, lifetimes, strict=True)), default=0
    )
    return offsets, _align(size)


def _align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Aliases:
    """For each value the one whose memory it lies in, its root, and the byte at which."""

    def __init__(self) -> None:
        self._parent: dict[str, tuple[str, int]] = {}

    def of(self, name: str) -> tuple[str, int]:
        offset = 0
        while name in self._parent:
            name, further = self._parent[name]
            offset += further
        return name, offset

    def join(self, root: str, other: str, offset: int = 0) -> None:
        """Put a root, and all that lies in it, into another value's memory."""
        self._parent[root] = (other, offset)


def _place_views(graph: Graph, algorithms: Mapping[str, str], aliases: _Aliases) -> list[Node]:
    steps = []
    for node in graph.nodes:
        if node.op == CONSTANT:
            continue
        offset = _view_offset(node, graph.specs) if algorithms[node.name] == "direct" else None
        if offset is None:
            steps.append(node)
        else:
            aliases.join(node.name, node.inputs[0], offset)
    return steps


def _view_offset(node: Node, specs: Mapping[str, _core.Spec]) -> int | None:
    """At which byte of its input's memory the node's output lies as it is; None: nowhere."""
    if OPERATIONS[node.op].view:
        return 0
    if not node.inputs:
        return None
    whole, part = specs[node.inputs[0]], specs[node.name]
    if node.op == "reorder":
        return 0 if same_memory(whole, part) else None
    if node.op == "permute":
        return 0 if _moves_nothing(node, whole, part) else None
    if node.op != "slice" or whole.layout != "dense" or not prod(part.shape):
        return None
    dim = node.attributes["dim"] % len(whole.shape)
    given = slice(*(node.attributes[name] for name in ("start", "end", "step")))
    start, _, step = given.indices(whole.shape[dim])
    if step != 1 or prod(whole.shape[:dim]) != 1:
        return None
    offset: int = start * (whole.bytes // whole.shape[dim])
    return offset


def _moves_nothing(node: Node, whole: _core.Spec, part: _core.Spec) -> bool:
    """Whether a permutation only gives the memory's dimensions other names."""
    order = memory_order(whole)
    dims = [dim % len(order) for dim in node.attributes["dims"]]
    return order == [dims[dim] for dim in memory_order(part)]


def memory_order(spec: _core.Spec) -> list[int]:
    """The dimensions from the outermost in memory to the innermost."""
    order = list(range(len(spec.shape)))
    if spec.layout == "channels_last":
        order.append(order.pop(-3))
    return order


def _place_concatenations(
    graph: Graph, steps: list[Node], algorithms: Mapping[str, str], aliases: _Aliases
) -> list[Node]:
    """Let inputs of concatenations be written where the result has them.

    From the last to the first: where a network concatenates ever more of the same values, as
    DenseNet does, the earlier results are parts of the last one.
    """
    written = {node.name for node in steps}
    vanished: set[str] = set()
    for node in reversed(steps):
        if node.op != "concat" or algorithms[node.name] != "direct" or not _is_dense(graph, node):
            continue
        places = [aliases.of(name) for name in node.inputs]
        sizes = [graph.specs[name].bytes for name in node.inputs]
        starts = [0, *accumulate(sizes[:-1])]
        root, first = places[0]
        if places == [(root, first + start) for start in starts]:
            if aliases.of(node.name) == (node.name, 0):
                aliases.join(node.name, root, first)
                vanished.add(node.name)
            continue
        roots = [name for name, _ in places]
        whole = all(
            offset == 0 and name in written and graph.specs[name].bytes == size
            for (name, offset), size in zip(places, sizes, strict=True)
        )
        if whole and len(set(roots)) == len(roots) and aliases.of(node.name)[0] not in roots:
            for name, start in zip(roots, starts, strict=True):
                aliases.join(name, node.name, start)
            vanished.add(node.name)
    return [node for node in steps if node.name not in vanished]


def _is_dense(graph: Graph, node: Node) -> bool:
    """Whether the inputs lie one after the other in the output."""
    spec = graph.specs[node.name]
    order = memory_order(spec)
    outer = order[: order.index(node.attributes.get("dim", 0) % len(order))]
    sizes = [graph.specs[name].bytes for name in node.inputs]
    return prod(spec.shape[dim] for dim in outer) == 1 and sum(sizes) == spec.bytes


def _work_in_place(
    graph: Graph,
    steps: Sequence[Node],
    algorithms: Mapping[str, str],
    aliases: _Aliases,
    fixed: Mapping[str, Location],
) -> None:
    last_read = {aliases.of(name)[0]: len(steps) for name in graph.outputs}
    for index in reversed(range(len(steps))):
        for name in steps[index].inputs:
            last_read.setdefault(aliases.of(name)[0], index)
    for index, node in enumerate(steps):
        if not node.inputs or not OPERATIONS[node.op].in_place or algorithms[node.name] != "direct":
            continue
        first, _ = aliases.of(node.inputs[0])
        if (
            first not in fixed
            and last_read[first] == index
            and all(aliases.of(name)[0] != first for name in node.inputs[1:])
            and graph.specs[node.inputs[0]] == graph.specs[node.name]
            and graph.specs[first].bytes == graph.specs[node.name].bytes
            and aliases.of(node.name)[0] != first
        ):
            aliases.join(first, node.name)


def _lifetimes(
    graph: Graph, steps: Sequence[Node], aliases: _Aliases, fixed: Mapping[str, Location]
) -> dict[str, Lifetime]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, node in enumerate(steps):
        for name in (node.name, *node.inputs):
            root, _ = aliases.of(name)
            first.setdefault(root, index)
            last[root] = index
    for name in graph.outputs:
        last[aliases.of(name)[0]] = len(steps)
    return {
        root: Lifetime(graph.specs[root].bytes, first[root], last[root])
        for root in first
        if root not in fixed
    }
