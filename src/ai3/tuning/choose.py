"""Tuning: what is measured, what is chosen, and whether it is kept."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ai3 import arrays
from ai3.graph.compile import improved
from ai3.graph.specialize import specialize
from ai3.machine import Watch
from ai3.model import Model
from ai3.plan import Plan
from ai3.progress import progress
from ai3.tuning import database, fit, measure, network, race, work
from ai3.tuning.tuned import Tuned

CHECKED = 0.2
"""The share of the time that the whole network's is compared in."""

LEAST, MOST_SHARE = 1.0, 4.0
"""What one problem may take: seconds, or times as much as there would be for each."""

WORTH = 1.0
"""How many times as long as untuned a tuned network may take to be kept."""


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
    session = Session(seconds)
    if isinstance(net, Model):
        return session.model(net, inputs, budgets, check)
    from ai3.torch import tuning

    return tuning.tune(session, net, inputs, budgets, gradients, check)


class Session:
    """One call of `tune`: its time, what it has measured, what it shows."""

    def __init__(self, seconds: float) -> None:
        arrays.follow_torch_threads()
        self.started = time.perf_counter()
        self.measured = self.known = 0
        self.stopped = False
        self._end = self.started + seconds
        self._measuring = self.started + (1 - CHECKED) * seconds
        self.watch = Watch()
        self._keeps = True

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
        named = budgets.accuracy is not None
        works: list[work.Work] = []
        flushed = network.weight_bytes(model.graph)
        for graph, specs in parts:
            before = improved(specialize(graph, specs, model._weights), model._weights)
            flushed += sum(spec.bytes for spec in before.specs.values())
            narrow = graph.precision == "bfloat16"
            works += work.of_graph(before, model._weights, narrow, named)
        self.measure(works, flushed)
        plan = network.plan_of(model, parts, by_estimates=False)
        tuned = Tuned(plan)
        if budgets.any:
            tuned = fit.fitted(model, inputs, plan, budgets, self.left)
            assert tuned.plan is not None
            plan = tuned.plan
        if check:
            tuned = self._checked(tuned, model, inputs, plan, untuned, budgets)
        return tuned

    def measure(self, works: Sequence[work.Work], flushed: int) -> None:
        """Measure what is not known yet, what takes most of the network first, and keep it."""
        times = database.opened()
        unknown = [each for each in works if times is None or not _is_known(each, times)]
        self.known += len(works) - len(unknown)
        unknown.sort(key=lambda each: -each.cycles * len(each.nodes))
        if unknown:
            self._look_whether_kept()
        flushed = min(flushed, measure.MOST_FLUSHED)
        with self._interruptible(), progress("tune ...") as show:
            for i, each in enumerate(unknown):
                left = max(0.0, self._measuring - time.perf_counter())
                if left == 0 and i:
                    self.stopped = True
                    break
                show(f"tune: {each.op}, problem {i + 1} of {len(unknown)}, {left:.0f} s left")
                end = time.perf_counter() + max(LEAST, MOST_SHARE * left / (len(unknown) - i))

                def is_over(end: float = end) -> bool:
                    return time.perf_counter() >= min(end, self._measuring)

                kept, own = measure.measure(each, self._watched, flushed, is_over)
                self.measured += 1
                self._keep(kept, own)
        database.renew()

    def told(self, tuned: Tuned) -> Tuned:
        return replace(
            tuned,
            measured=self.measured,
            known=self.known,
            seconds=self.taken,
            stopped=self.stopped,
        )

    def left(self) -> float:
        """Seconds, of those for all but the last check."""
        return max(0.0, self._measuring - time.perf_counter())

    def compare(
        self, sides: Mapping[str, Callable[[], object]], most: float
    ) -> tuple[dict[str, float], str]:
        """The medians of what whole networks take, seconds, and in which state of the machine."""
        end = time.perf_counter() + most

        def timed(call: Callable[[], object]) -> Callable[[], float]:
            def sample() -> float:
                started = time.perf_counter()
                call()
                return time.perf_counter() - started

            return sample

        rounds = 0

        def is_over() -> bool:
            nonlocal rounds
            rounds += 1
            return rounds > 8 * len(sides) and time.perf_counter() > end

        candidates = {name: race.Candidate(timed(call), name, inf) for name, call in sides.items()}
        found = race.race(candidates, self._watched, is_over)
        state = max(found, key=lambda s: min(len(lane.samples) for lane in found[s].values()))
        return {name: lane.seconds for name, lane in found[state].items()}, state

    def _checked(
        self,
        tuned: Tuned,
        model: Model,
        inputs: Sequence[Any],
        plan: Plan,
        untuned: Plan,
        budgets: Budgets,
    ) -> Tuned:
        """The choice, kept where the whole network is not slower by it; where budgets forbid the
        untuned one, in any case."""
        if not plan.compare(untuned):
            return replace(tuned, plan=plan)
        plans = {"untuned": untuned, "tuned": plan}
        sides = {
            name: network.caller(network.by(model, each), inputs) for name, each in plans.items()
        }
        for call in sides.values():
            call()
        most = max(self._end - time.perf_counter(), 0.5)
        medians, state = self.compare(sides, min(most, 10.0))
        kept = budgets.any or medians["tuned"] <= WORTH * medians["untuned"]
        return replace(
            tuned,
            plan=plan if kept else untuned,
            kept=kept,
            before_ms=1e3 * medians["untuned"],
            after_ms=1e3 * (medians["tuned"] if kept else medians["untuned"]),
            state=state,
        )

    def _watched(self, block: Callable[[], float]) -> tuple[float, str]:
        return self.watch(block)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.stopped = True

    def _look_whether_kept(self) -> None:
        try:
            database.writable()
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


def _is_known(each: work.Work, times: database.Times) -> bool:
    """Whether everything that may compute it was measured."""
    keys: dict[str, set[str]] = {}
    for contender in each.contenders:
        keys.setdefault(contender.key, set()).add(contender.algorithm)
    return all(
        algorithms <= {row.algorithm for row in times.rows(key)} for key, algorithms in keys.items()
    )
