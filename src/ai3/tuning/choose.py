"""Tuning: what is measured, what is chosen, and whether it is kept."""

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ai3 import arrays
from ai3.machine import Watch
from ai3.model import Model
from ai3.plan import Plan
from ai3.progress import progress
from ai3.tuning import database, fit, inside, measure, network, race, work
from ai3.tuning.tuned import Tuned

CHECKED = 0.2
"""The share of the time that whole networks are compared in."""

FITTED = 0.3
"""The share in which a budget of accuracy is spent, by runs of the whole network."""

LEAST_CHECKED, LEAST_ROUNDS = 0.5, 3
"""Seconds and rounds in which they are in any case."""

FIRST_SHARE = 0.5
"""Of the time for measuring, what the layouts that are estimated to be the best get."""

MOST_AGAIN = 4
"""How many times what is chosen is measured, where it is in other layouts."""


@dataclass(frozen=True)
class Budgets:
    """What the choice has to keep, as `tune` takes it."""

    accuracy: float | None = None
    against: str = "float64"
    memory: int | str | None = None

    def check(self) -> None:
        """Raises ValueError."""
        accuracy = self.accuracy
        if accuracy is not None and (not isinstance(accuracy, int | float) or not accuracy > 0):
            raise ValueError(f"accuracy is a relative error above 0, such as 1e-5, not {accuracy}")
        if self.against not in ("float64", "float32"):
            raise ValueError(f"against must be 'float64' or 'float32', not {self.against!r}")
        self.bytes(1)

    def bytes(self, weights: int) -> float:
        """The bytes that the memory's budget is; infinite where there is none. Raises
        ValueError."""
        if self.memory is None:
            return inf
        if isinstance(self.memory, str) and (
            found := re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*x\s*", self.memory)
        ):
            return float(found[1]) * weights
        if isinstance(self.memory, int) and not isinstance(self.memory, bool) and self.memory >= 0:
            return float(self.memory)
        raise ValueError(
            "memory is a number of bytes, or a multiple of the weights such as '1.5x', not "
            f"{self.memory!r}"
        )

    @property
    def any(self) -> bool:
        return self.accuracy is not None or self.memory is not None


def tune(
    net: Any,
    inputs: Sequence[Any],
    seconds: float,
    budgets: Budgets,
    gradients: bool,
    check: bool,
) -> Tuned:
    budgets.check()
    if not inputs:
        raise ValueError("tune needs the network's inputs, as many as it takes")
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, not {seconds}")
    if isinstance(net, Model) and (refusal := net.refusal_of_plans()):
        raise ValueError(refusal)
    session = Session(seconds, FITTED if budgets.accuracy is not None else 0.0)
    if isinstance(net, Model):
        return session.model(net, inputs, budgets, check)
    from ai3.torch import tuning

    return tuning.tune(session, net, inputs, budgets, gradients, check)


class Session:
    """One call of `tune`: its time, what it has measured, what it shows."""

    def __init__(self, seconds: float, fitted: float) -> None:
        arrays.follow_torch_threads()
        self.started = time.perf_counter()
        self.stopped = False
        self._end = self.started + seconds
        self._fitting = self.started + (1 - CHECKED) * seconds
        self._measuring = self._fitting - fitted * seconds
        self._measured: set[str] = set()
        self._known: set[str] = set()
        self._times = database.opened()  # as they were before
        self.watch = Watch()
        self._keeps: bool | None = None

    @property
    def taken(self) -> float:
        return time.perf_counter() - self.started

    def model(self, model: Model, inputs: Sequence[Any], budgets: Budgets, check: bool) -> Tuned:
        """Tune a model, which then runs the choice."""
        tuned = self._tuned(network.unpinned(model), inputs, budgets, check)
        assert tuned.plan is not None
        model.prepare(*inputs)
        model._pin([part.pins() for part in tuned.plan.parts])
        model.forget_packed()
        return self.told(tuned)

    def _tuned(self, model: Model, inputs: Sequence[Any], budgets: Budgets, check: bool) -> Tuned:
        try:
            parts = network.parts_of(model, inputs)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the inputs do not go through the network: {error}") from error
        untuned = network.plan_of(model, parts, by_estimates=True)
        self._measure_inside(model, inputs, parts, untuned, budgets.accuracy is not None)
        plan = network.plan_of(model, parts, by_estimates=False)
        tuned = Tuned(plan)
        if budgets.any:
            plans = [plan]
            if budgets.memory is not None:
                others = inside.layouts(model, parts, untuned)
                plans += [network.plan_of(model, parts, by_estimates=False, pins=o) for o in others]
            tuned = fit.fitted(model, inputs, plans, budgets, lambda: self.left(self._fitting))
        if check:
            tuned = self._checked(tuned, model, inputs, parts, untuned, budgets)
        return tuned

    def _measure_inside(
        self,
        model: Model,
        inputs: Sequence[Any],
        parts: network.Parts,
        untuned: Plan,
        named: bool,
    ) -> None:
        """Measure in the layouts of the untuned plan, then in others; then, as long as what is
        chosen by that has problems that were not measured, in the layouts that are chosen."""
        choices = [*inside.layouts(model, parts, untuned)]
        for i, pins in enumerate(choices):
            share = FIRST_SHARE if i == 0 else 1 / (1 + len(choices) - i)
            met = inside.portions(model, inputs, pins, named, self.is_known)
            self.measure(met, f"layouts {i + 1} of {len(choices)}", share)
        for _ in range(MOST_AGAIN):
            chosen = inside.in_layouts_of(network.plan_of(model, parts, by_estimates=False))
            met = inside.portions(model, inputs, chosen, named, self.is_known)
            if not self.measure(met, "layouts chosen", 0.5):
                break

    def measure(self, problems: Iterable[measure.Problems], what: str, share: float) -> bool:
        """Measure in a share of the time that is left, keep what was found; whether something was,
        and time is left."""
        end, found = time.perf_counter() + share * self.left(), False
        with self._interruptible(), progress("tune ...") as show:
            for each in problems:
                if self.is_over() and self._measured:
                    self.stopped = True
                    break
                if self._keeps is None:
                    self._look_whether_kept()
                found = True
                show(f"tune: {what}, {len(each.contenders)} problems, {self.left():.0f} s left")
                kept, own = measure.measure(
                    each,
                    self._watched,
                    lambda: self.stopped or time.perf_counter() >= end,
                )
                self._measured |= {row.problem for row in (*kept, *own)}
                self._keep(kept, own)
        if found:
            database.renew()
        return found and not self.is_over()

    def is_known(self, contenders: Sequence[work.Contender]) -> bool:
        """Whether all of them were measured on a problem."""
        key = contenders[0].key
        if key in self._measured:
            return True
        rows = [] if self._times is None else self._times.rows(key)
        known = {c.algorithm for c in contenders} <= {row.algorithm for row in rows}
        if known:
            self._known.add(key)
        return known

    def is_over(self) -> bool:
        return not self.left()

    def told(self, tuned: Tuned) -> Tuned:
        return replace(
            tuned,
            measured=len(self._measured),
            known=len(self._known),
            seconds=self.taken,
            stopped=self.stopped,
        )

    def left(self, end: float | None = None) -> float:
        """Seconds, of those for measuring or until another end."""
        end = self._measuring if end is None else end
        return 0.0 if self.stopped else max(0.0, end - time.perf_counter())

    def compare(
        self, sides: Mapping[str, Callable[[], object]], most: float
    ) -> tuple[dict[str, float], str]:
        """The medians of what whole networks take, seconds, and in which state of the machine."""
        end, runs = time.perf_counter() + most, 0

        def run(names: Mapping[str, str]) -> dict[str, float]:
            nonlocal runs
            (name,) = names.values()
            runs += 1
            sides[name]()  # the side before has emptied the caches
            started = time.perf_counter()
            sides[name]()
            return {"": time.perf_counter() - started}

        def is_over() -> bool:
            return runs >= LEAST_ROUNDS * len(sides) and time.perf_counter() > end

        found = race.race({"": [*sides]}, run, self._watched, is_over, close=0.0)
        state = max(found, key=lambda s: min(len(lane.samples) for lane in found[s][""].values()))
        return {name: lane.seconds for name, lane in found[state][""].items()}, state

    def _checked(
        self,
        tuned: Tuned,
        model: Model,
        inputs: Sequence[Any],
        parts: network.Parts,
        untuned: Plan,
        budgets: Budgets,
    ) -> Tuned:
        """The choice, kept where the whole network is not slower by it, in its layouts or in those
        of the untuned one; where budgets forbid that, in any case."""
        assert tuned.plan is not None
        plans = {"untuned": untuned, "tuned": tuned.plan}
        if not budgets.any:
            same = inside.in_layouts_of(untuned)
            plans["algorithms"] = network.plan_of(model, parts, by_estimates=False, pins=same)
        distinct: dict[str, Plan] = {}
        for name, plan in plans.items():
            if all(plan.compare(other) for other in distinct.values()):
                distinct[name] = plan
        if len(distinct) == 1:
            return tuned
        sides = {n: network.caller(network.by(model, p), inputs) for n, p in distinct.items()}
        for call in sides.values():
            call()
        most = max(self._end - time.perf_counter(), LEAST_CHECKED)
        medians, state = self.compare(sides, most)
        best = "tuned" if budgets.any else min(medians, key=lambda name: medians[name])
        return replace(
            tuned,
            plan=distinct.get(best, tuned.plan),
            kept=best != "untuned",
            before_ms=1e3 * medians["untuned"],
            after_ms=1e3 * medians.get(best, medians["untuned"]),
            state=state,
        )

    def _watched(self, block: Callable[[], None]) -> tuple[None, str]:
        try:
            return self.watch(block)
        except KeyboardInterrupt:
            self.stopped = True
            return None, self.watch.state.name

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.stopped = True

    def _look_whether_kept(self) -> None:
        try:
            database.writable()
            self._keeps = True
        except OSError as error:
            self._keeps = False
            warnings.warn(
                f"what is measured holds for this process alone: {error}; set AI3_CACHE_DIR to a "
                "folder that can be written",
                RuntimeWarning,
                stacklevel=6,
            )

    def _keep(self, kept: Sequence[database.Row], own: Sequence[database.Row]) -> None:
        database.remember(own)
        if self._keeps:
            try:
                database.write(kept)
                return
            except OSError:
                self._look_whether_kept()
                self._keeps = False
        database.remember(kept)
