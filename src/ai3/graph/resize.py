"""From the plan for inputs of some sizes to plans for others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ai3 import _core
from ai3.algorithms import has_own
from ai3.graph import expression
from ai3.graph.eliminate import changes_nothing, join
from ai3.graph.fuse_expansions import Pair, expands
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import LARGE, problem_of
from ai3.graph.weights import WeightStore
from ai3.ops import OPERATIONS

REMOVED = ("reshape", "flatten", "expand", "permute", "concat", "slice", "pad", "roll", "pointwise")
"""Operations that `eliminate` removes by what their shapes are."""

MOST_PINNED = 4096
"""Elements of an array that is made anew for every size, only to see that it is the same."""


@dataclass(frozen=True)
class Stages:
    """A graph for any sizes, and what it became for some."""

    general: Graph
    specialized: Graph
    pairs: Sequence[Pair]
    """Those of which `fuse_expansions` had to decide, and whether it fused them."""
    compiled: Graph
    problems: Mapping[str, _core.Problem]
    algorithms: Mapping[str, str]
    """What each node of `compiled` is to run, by the user's name for it."""


@dataclass(frozen=True)
class Resizable:
    """A compiled graph, from which plans for other sizes are made, node by node in the core, where
    the passes would have made the same of them.

    That is so where every node's arrays meet as they did (`Schedule.resized`), and:
    - what expressions came to, in nodes that passes changed, is the same (`pinned`);
    - what was removed because it changed nothing still changes nothing (the schedule's identities);
    - large images are expanded where large ones were (`pairs`).
    """

    schedule: _core.Schedule
    threads: int
    values: Mapping[str, int]
    """The schedule's values by their names."""
    read: Sequence[str]
    """The values whose shapes `checks` and `pinned` depend on."""
    checks: Sequence[Any]
    pinned: Sequence[tuple[Any, Any]]
    pairs: Sequence[Pair]
    operations: frozenset[str]
    weights: WeightStore

    def executor(self, inputs: Sequence[_core.Spec]) -> _core.Executor | None:
        """The plan for inputs of these specs, as `compile_graph` would make it in the same layouts;
        None where that is to be asked."""
        if self.threads != _core.max_threads() or any(map(has_own, self.operations)):
            return None
        other = self.schedule.resized(inputs, LARGE)
        if other is None or not self._fits(other):
            return None
        executor, _ = other.executor()
        return executor

    def _fits(self, other: _core.Schedule) -> bool:
        def specs(names: Iterable[str]) -> dict[str, _core.Spec]:
            return {name: other.spec(self.values[name]) for name in names}

        try:
            shapes = {name: spec.shape for name, spec in specs(self.read).items()}
            return (
                all(expression.evaluate(check, shapes) for check in self.checks)
                and all(
                    _is_same(expression.evaluate(item, shapes), value)
                    for item, value in self.pinned
                )
                and all(
                    pair.fused == expands(pair, specs(pair.outer), self.weights)
                    for pair in self.pairs
                )
            )
        except Exception:  # whatever is wrong, planning from the start tells it
            return False


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return type(a) is type(b) and bool(np.array_equal(a, b))


def scheduled(
    stages: Stages, weights: WeightStore
) -> tuple[_core.Schedule, Sequence[str], Resizable | None]:
    """The schedule of a compiled graph for its own sizes, the names of the schedule's nodes, and
    what makes plans for other sizes; None where the graph's structure does not allow it."""
    general = stages.general
    operations = frozenset(node.op for node in general.nodes) - {CONSTANT}
    listing = _Listing(stages, weights)
    try:
        own = {node.name: node.algorithm for node in stages.compiled.nodes}
        replaced = any(name != own[node] for node, name in stages.algorithms.items())
        if replaced or any(map(has_own, operations)):
            raise _NotFollowedError
        pinned = listing.fill()
        items = (general.checks, tuple(item for item, _ in pinned))
        read = tuple(dict.fromkeys(expression.reads(items)))
        listing.require_shapes(read)
    except _NotFollowedError:
        listing = _Listing(stages, weights)
        for node in stages.compiled.nodes:
            listing.add(node)
        return listing.schedule(), listing.names, None
    schedule = listing.schedule()
    resizable = Resizable(
        schedule,
        _core.max_threads(),
        listing.values,
        read,
        general.checks,
        pinned,
        stages.pairs,
        operations,
        weights,
    )
    return schedule, listing.names, resizable


class _NotFollowedError(Exception):
    """The structure of a compiled graph depends on sizes in a way that is not followed."""


_Attributes: TypeAlias = tuple[tuple[int, ...], Callable[..., dict[str, Any]]]
"""The values whose shapes attributes depend on, and what gives those for the shapes."""


class _Listing:
    """The nodes of a schedule."""

    def __init__(self, stages: Stages, weights: WeightStore) -> None:
        self.values = {name: i for i, name in enumerate(stages.compiled.inputs)}
        self.names: list[str] = []
        self._stages, self._weights = stages, weights
        self._nodes: list[tuple[Any, ...]] = []

    def schedule(self) -> _core.Schedule:
        graph = self._stages.compiled
        return _core.Schedule(
            [graph.specs[name] for name in graph.inputs],
            self._nodes,
            [node.weights[0] for node in graph.nodes if node.op == CONSTANT],
            [self.values[name] for name in graph.outputs],
        )

    def add(self, node: Node, attributes: _Attributes | None = None) -> None:
        """A node of the compiled graph; `attributes` where those depend on sizes."""
        if node.op == CONSTANT:
            self._append(node.name, (), None, "", attributes=None)
            return
        self._append(
            node.name,
            node.inputs,
            self._stages.problems[node.name],
            self._stages.algorithms[node.name],
            (OPERATIONS[node.op].view, OPERATIONS[node.op].in_place),
            attributes=attributes,
        )

    def fill(self) -> list[tuple[Any, Any]]:
        """Add all nodes, between them those that passes removed as far as their shapes matter, and
        give the items of expressions that must come to what they came to."""
        stages = self._stages
        before, specs = stages.specialized, stages.specialized.specs
        general = {node.name: node for node in stages.general.nodes}
        after = {node.name: node for node in stages.compiled.nodes}
        new = {node.op for node in after.values()} - {node.op for node in before.nodes}
        if len(before.nodes) != len(general) or {"stack", "interleave"} & new:
            raise _NotFollowedError
        shapes = {name: spec.shape for name, spec in specs.items()}
        joined = {node.name: node for node in join(before).nodes}
        pinned: list[tuple[Any, Any]] = []
        fixed: set[str] = set()
        rest = iter(stages.compiled.nodes)
        for node in before.nodes:
            name = node.name
            keys = stages.general.varying.get(name, ())
            varying = {key: general[name].attributes[key] for key in keys}
            left, one = after.get(name), joined.get(name, node)
            attributes: _Attributes | None = None
            if node.op == CONSTANT or (node.inputs and fixed.issuperset(node.inputs)):
                fixed.add(name)
            elif left is not None and one.inputs == node.inputs and _keeps(left, node, keys):
                # Whether it is removed depends on the attributes alone where shapes stay.
                if node.op not in REMOVED or specs[node.inputs[0]] != specs[name]:
                    attributes, varying = self._varying(left, varying), {}
            elif node.op in REMOVED and (node.op != "pointwise" or changes_nothing(one, specs)):
                nothing = left is None and changes_nothing(one, specs)
                alone = one.inputs == node.inputs
                joined_shape = one.op == "reshape" and not alone
                by_value = node.op in ("pad", "roll", "permute")
                by_value = by_value or (left is not None and not joined_shape)
                self._probe(
                    node,
                    "identity" if nothing and alone and not by_value else "probe",
                    None if by_value else self._varying(node, varying),
                )
                varying = varying if by_value else {}
                if joined_shape:
                    attributes = ((self.values[name],), lambda shape: {"shape": shape})
                    if nothing:
                        self._probe(one, "identity", attributes)
            pinned += [(item, _pinned(item, shapes)) for item in varying.values()]
            while left is not None:
                each = next(rest)
                self.add(each, attributes if each is left else None)
                if each is left:
                    break
        for each in rest:
            self.add(each)
        return pinned

    def require_shapes(self, names: Iterable[str]) -> None:
        if not self.values.keys() >= set(names):
            raise _NotFollowedError

    def _varying(self, node: Node, varying: Mapping[str, Any]) -> _Attributes | None:
        """The attributes of a node of which some are expressions."""
        if not varying:
            return None
        names = tuple(dict.fromkeys(expression.reads(tuple(varying.values()))))
        self.require_shapes(names)
        others = dict(node.attributes)

        def attributes(*shapes: tuple[int, ...]) -> dict[str, Any]:
            known = dict(zip(names, shapes, strict=True))
            return {
                **others,
                **{key: expression.evaluate(item, known) for key, item in varying.items()},
            }

        return tuple(self.values[name] for name in names), attributes

    def _probe(self, node: Node, role: str, attributes: _Attributes | None) -> None:
        self.require_shapes(node.inputs)
        problem = problem_of(node, self._stages.specialized.specs, self._weights)
        self._append(node.name, node.inputs, problem, "direct", role=role, attributes=attributes)

    def _append(
        self,
        name: str,
        inputs: Sequence[str],
        problem: _core.Problem | None,
        algorithm: str,
        memory: tuple[bool, bool] = (False, False),
        role: str = "step",
        *,
        attributes: _Attributes | None,
    ) -> None:
        reads, given = ((), None) if attributes is None else attributes
        places = [self.values[value] for value in inputs]
        self.values[name] = len(self._stages.compiled.inputs) + len(self._nodes)
        self.names.append(name)
        self._nodes.append((places, problem, algorithm, *memory, role, reads, given))


def _pinned(item: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    value = expression.evaluate(item, shapes)
    if isinstance(value, np.ndarray) and value.size > MOST_PINNED:
        raise _NotFollowedError
    return value


def _keeps(left: Node, node: Node, varying: Sequence[str]) -> bool:
    """Whether what is left of a node is the same operation with what sizes give it."""
    return left.op == node.op and all(
        left.attributes.get(key) == node.attributes[key] for key in varying
    )
