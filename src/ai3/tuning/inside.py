"""The problems of a model, timed where they run: between their neighbours, on arrays and in caches
as those leave them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ai3 import _core, arrays
from ai3.graph.choose_layouts import uniform_layouts
from ai3.graph.compile import Compiled, Pins, compile_graph, improved
from ai3.graph.graph import Node
from ai3.graph.specialize import REAL, specialize
from ai3.graph.weights import WeightStore
from ai3.model import Model
from ai3.ops import LAYOUTS
from ai3.plan import Plan
from ai3.tuning.network import Parts
from ai3.tuning.work import Contender, contenders

TIMED = 2
"""Runs in a row by the same algorithms that are timed, after one that brings the caches into the
state in which they leave them."""

KEPT = 16
"""Choices of algorithms of which the executors are kept."""

MOST_PACKED = 1 << 31
"""Bytes of weights, each times the number of algorithms that pack them, that are tried together."""


def layouts(model: Model, parts: Parts, untuned: Plan) -> Iterator[tuple[Pins, ...]]:
    """The choices of layouts to measure problems in: that of a plan, and those in which as much as
    can be is in one form."""
    first = in_layouts_of(untuned)
    met = [[pins.layouts for pins in first]]
    yield first
    narrow = model.graph.precision == "bfloat16"
    dtypes = ["float32", "bfloat16"] if narrow else ["float32"]
    for form in ((dtype, layout) for dtype in dtypes for layout in reversed(LAYOUTS)):
        found = []
        for graph, specs in parts:
            before = improved(specialize(graph, specs, model._weights), model._weights)
            found.append(Pins(specs, {}, uniform_layouts(before, model._weights, form, narrow), {}))
        if [pins.layouts for pins in found] not in met:
            met.append([pins.layouts for pins in found])
            yield tuple(found)


def in_layouts_of(plan: Plan) -> tuple[Pins, ...]:
    """The layouts of a plan without its algorithms."""
    return tuple(replace(part.pins(), algorithms={}) for part in plan.parts)


def portions(
    model: Model,
    inputs: Sequence[Any],
    pins: Sequence[Pins],
    named: bool,
    is_known: Callable[[Sequence[Contender]], bool],
) -> Iterator["Inside"]:
    """The model in one choice of layouts, with a choice at each problem of which the times are not
    known; in several parts where too much would be packed at a time."""
    whole = Inside(model, inputs, pins, named)
    unknown = {key: of for key, of in whole.contenders.items() if not is_known(of)}
    split: list[list[str]] = []
    packed = 0
    for key, of in unknown.items():
        needs = len(of) * sum(w.nbytes for w in of[0].weights if w is not None)
        if not split or packed + needs > MOST_PACKED:
            split.append([])
            packed = 0
        split[-1].append(key)
        packed += needs
    if len(split) == 1:
        whole.contenders = unknown
        yield whole
    del whole
    for keys in split if len(split) > 1 else ():
        yield Inside(model, inputs, pins, named, keys)


class Inside:
    """A model in one choice of layouts. What algorithms pack of its weights goes with it."""

    def __init__(
        self,
        model: Model,
        inputs: Sequence[Any],
        pins: Sequence[Pins],
        named: bool,
        keys: Collection[str] | None = None,
    ) -> None:
        self.contenders: dict[str, Sequence[Contender]] = {}
        self._model, self._pins, self._store = model, tuple(pins), WeightStore(model.graph)
        self._keys: dict[str, str] = {}  # of problems, by the names of nodes that count
        if len(model._parts) == 1:
            self._inputs = [model._readable(inputs)]
        else:
            self._inputs = [[*map(_normal, own.specs)] for own in pins]
        self._by = lru_cache(KEPT)(self._compiled)
        for compiled in self._compiled():
            asked = {node.name: node.op for node in compiled.before.nodes}
            nodes = {node.name: node for node in compiled.graph.nodes}
            for node in map(nodes.__getitem__, compiled.steps):
                problem = compiled.problems[node.name]
                if keys is None or problem.key in keys:
                    self._add(node, problem, asked.get(node.name) == node.op, named)

    def _add(self, node: Node, problem: _core.Problem, asked: bool, named: bool) -> None:
        key, found = problem.key, self.contenders.get(problem.key)
        if found is None:
            found = contenders(problem, node.weights, dict(node.attributes), named)
        # What passes made has no name by which it could be given an algorithm.
        if len(found) > 1 and not (asked and node.algorithm == "default"):
            return
        if found:
            self.contenders[key] = found
            self._keys[node.name] = key

    def run(self, algorithms: Mapping[str, str]) -> dict[str, float]:
        taken: dict[str, list[float]] = {key: [] for key in algorithms}
        for compiled, inputs in zip(self._by(*algorithms.values()), self._inputs, strict=True):
            compiled.executor.profile(inputs)
            for _ in range(TIMED):
                times = compiled.executor.profile(inputs)
                for name, ms in zip(compiled.steps, times, strict=False):
                    if (key := self._keys.get(name)) in taken:
                        taken[key].append(1e-3 * ms)
        return {key: sum(of) / len(of) for key, of in taken.items() if of}

    def _compiled(self, *names: str) -> list[Compiled]:
        """With the problems by these algorithms, in the order of `contenders`, or all by default
        ones."""
        algorithms = dict(zip(self.contenders, names, strict=True))
        chosen = {
            name: algorithms[key]
            for name, key in self._keys.items()
            if key in algorithms and len(self.contenders[key]) > 1
        }
        before = _core.estimates_only(True)
        try:
            return [
                compile_graph(
                    graph,
                    own.specs,
                    self._store,
                    self._model._unsupported,
                    pins=replace(own, algorithms=chosen),
                )
                for graph, own in zip(self._model._graphs, self._pins, strict=True)
            ]
        finally:
            _core.estimates_only(before)


def _normal(spec: _core.Spec) -> Any:
    if spec.dtype not in REAL:
        return arrays.zeros(spec)
    return np.random.default_rng(0).standard_normal(spec.shape).astype(spec.dtype)
