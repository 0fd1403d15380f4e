"""Smaller cases."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ai3.validation.case import Case, Shape
from ai3.validation.trial import Trial

Place = tuple[str, int, int]


def shrunk(trial: Trial, is_wrong: Callable[[Trial], bool]) -> Trial:
    """The smallest trial that is found to be wrong too by making one thing simpler at a time."""
    found = True
    while found:
        found = False
        for simpler in simpler_ones(trial):
            if is_wrong(simpler):
                trial, found = simpler, True
                break
    return trial


def simpler_ones(trial: Trial) -> Iterator[Trial]:
    """Trials that differ in one thing, which is simpler: those of the fewest elements first. They
    need not be valid."""
    cases = [case for case in _simpler(trial.case) if case.elements < trial.case.elements]
    for case in sorted(cases, key=lambda case: case.elements):
        yield replace(trial, case=case)
    plain: dict[str, Any] = {
        "strides": None,
        "values": "random",
        "output_layout": None,
        "input_layout": "dense",
        "threads": 1,
    }
    for name, value in plain.items():
        if getattr(trial, name) != value:
            yield replace(trial, **{name: value})
    for name, held in trial.case.attributes.items():
        left = {key: value for key, value in trial.case.attributes.items() if key != name}
        yield replace(trial, case=replace(trial.case, attributes=left))
        for value in _less(held):
            yield replace(trial, case=replace(trial.case, attributes={**left, name: value}))


def _less(value: Any) -> Iterator[Any]:
    if isinstance(value, bool) or not isinstance(value, int | tuple):
        return
    if isinstance(value, int):
        yield from sorted({1, value // 2, value - 1} & set(range(1, value)))
        return
    for i, part in enumerate(value):
        for less in _less(part):
            yield (*value[:i], less, *value[i + 1 :])
    if len(value) == 2 and value[0] == value[1]:
        yield value[0]


def _simpler(case: Case) -> Iterator[Case]:
    """One extent less, wherever it occurs, or with its multiples, as channels in groups are; one
    weight or dimension less."""
    places = [
        (kind, i, d)
        for kind in ("inputs", "weights")
        for i, shape in enumerate(getattr(case, kind))
        for d in range(len(shape or ()))
    ]
    extents = {place: getattr(case, place[0])[place[1]][place[2]] for place in places}
    for extent in sorted(set(extents.values()) - {0, 1}):
        same = [place for place in places if extents[place] == extent]
        multiples = [place for place in places if extents[place] % extent == 0 and extents[place]]
        for less in sorted({0, 1, 2, extent // 2, extent - 1} & set(range(extent))):
            yield _with(case, dict.fromkeys(same, less))
            yield _with(case, {place: extents[place] // extent * less for place in multiples})
            for place in same:
                yield _with(case, {place: less})
            for d in {place[2] for place in same}:
                yield _with(case, {p: less for p in same if p[2] == d})
    for i, weight in enumerate(case.weights):
        if i and weight is not None:
            yield replace(case, weights=(*case.weights[:i], None, *case.weights[i + 1 :]))
    if len(case.inputs) == 1 and len(case.inputs[0]) == 4:
        yield replace(case, inputs=(case.inputs[0][1:],))
    if len(case.inputs) > 1:
        yield replace(case, inputs=case.inputs[:-1])


def _with(case: Case, extents: dict[Place, int]) -> Case:
    """Those extents changed, and the attributes which say one of the same dimension."""
    shapes: dict[str, list[Shape | None]] = {
        "inputs": list(case.inputs),
        "weights": list(case.weights),
    }
    for (kind, i, d), extent in extents.items():
        shape = shapes[kind][i] or ()
        shapes[kind][i] = (*shape[:d], extent, *shape[d + 1 :])
    inputs = tuple(shape or () for shape in shapes["inputs"])
    attributes = case.attributes
    channels, now = case.inputs[0][-3:-2], inputs[0][-3:-2]
    if (groups := attributes.get("groups")) and channels != now:
        # As many channels in each group as before.
        attributes = {**attributes, "groups": max(1, now[0] * groups // max(1, channels[0]))}
    return replace(case, inputs=inputs, weights=tuple(shapes["weights"]), attributes=attributes)
