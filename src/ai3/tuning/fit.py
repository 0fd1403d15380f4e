"""A plan within budgets of memory and accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from ai3 import _core
from ai3.errors import BudgetError
from ai3.model import Model
from ai3.plan import Plan, PlannedNode
from ai3.tuning import database, network
from ai3.tuning.budget import Choice, Solution, solve
from ai3.tuning.tuned import Tuned

if TYPE_CHECKING:
    from ai3.tuning.choose import Budgets

TRIES = 8
"""Of choices whose error on the whole network is then measured."""


@dataclass(frozen=True)
class _Way:
    """An algorithm that may compute a node in its layouts; `error` is its own, relative."""

    algorithm: str
    seconds: float
    packed: int
    workspace: int
    error: float


class _Ways:
    """What may compute each node of a plan that there is a choice for, by their names."""

    def __init__(self, model: Model, plan: Plan, named: bool) -> None:
        self.plan = plan
        self.of: dict[str, list[_Way]] = {}
        self.labels: dict[str, str] = {}
        times = database.opened() or database.Times(None)
        for graph, part in zip(model._graphs, plan.parts, strict=True):
            compiled = network.pinned(model, graph, part)
            names = {node.name for node in compiled.graph.nodes}
            for node in part.nodes:
                problem = compiled.problems.get(node.name)
                expanded = part.pins().expanded
                if problem is None or node.name in expanded or node.name not in names:
                    continue
                ways = list(_ways(node, problem, times, named))
                if len(ways) > 1:
                    self.of[node.name] = ways
                    self.labels[node.name] = node.label

    def plan_by(self, picks: dict[str, _Way]) -> Plan:
        def changed(node: PlannedNode) -> PlannedNode:
            way = picks.get(node.name)
            if way is None:
                return node
            error = way.error if isfinite(way.error) else None
            return replace(node, algorithm=way.algorithm, ms=1e3 * way.seconds, error=error)

        parts = [replace(p, nodes=tuple(map(changed, p.nodes))) for p in self.plan.parts]
        return replace(self.plan, parts=tuple(parts))


def fitted(
    model: Model,
    inputs: Sequence[Any],
    plans: Sequence[Plan],
    budgets: "Budgets",
    left: Callable[[], float],
) -> Tuned:
    """The fastest choice that keeps the budgets in the layouts of one of the plans, the first of
    which is the fastest without budgets. Raises BudgetError."""
    found: list[tuple[float, Plan, Tuned]] = []
    impossible: list[_Impossible] = []
    for plan in plans:
        try:
            tuned = _fitted(model, inputs, plan, budgets, left)
            assert tuned.plan is not None
            found.append((network.expected(model, tuned.plan), tuned.plan, tuned))
        except _Impossible as error:
            impossible.append(error)
    if not found:
        raise BudgetError(str(min(impossible, key=lambda error: error.least)))
    seconds, chosen, tuned = min(found, key=lambda each: each[0])
    slower = seconds - network.expected(model, plans[0])
    notes = [] if plans[0].compare(chosen) else ["the budgets change nothing"]
    return replace(tuned, cost_ms=1e3 * slower, notes=tuple(notes))


class _Impossible(BudgetError):
    """In the layouts of one plan; `least` is the least that is possible, of what the budget is."""

    def __init__(self, text: str, least: float) -> None:
        super().__init__(text)
        self.least = least


def _fitted(
    model: Model,
    inputs: Sequence[Any],
    plan: Plan,
    budgets: "Budgets",
    left: Callable[[], float],
) -> Tuned:
    """The same in the layouts of one plan. Raises _Impossible."""
    ways = _Ways(model, plan, named=budgets.accuracy is not None)
    memory = budgets.bytes(network.weight_bytes(model.graph))
    errors = None
    if budgets.accuracy is not None:
        errors = _Errors(model, inputs, ways, budgets.accuracy, budgets.against, left)
    # What is held whatever is chosen.
    fixed = 0.0
    if memory < inf:
        first = {name: of[0] for name, of in ways.of.items()}
        held = network.footprint(model, ways.plan_by(first))
        fixed = held.total - sum(way.packed for way in first.values())
        fixed -= min(held.workspace, max((way.workspace for way in first.values()), default=0))
    scale, slack = 1.0, 0.0
    best: tuple[Plan, Solution] | None = None
    error = None
    for _ in range(TRIES):
        solution = _solve(ways, memory - fixed - slack, errors, scale)
        if solution is None:
            break
        picks = _picked(ways, solution)
        candidate = ways.plan_by(picks)
        over = 0.0
        if memory < inf:
            over = network.footprint(model, candidate).total - memory
        if errors is not None:
            error = errors.of(candidate)
        wrong = errors is not None and error is not None and error > errors.accuracy
        if over <= 0 and not wrong:
            best = candidate, solution
            break
        slack += max(0.0, over)
        if wrong and errors is not None and error is not None:
            scale *= 1.05 * errors.excess(error, picks, scale)
    if best is None:
        raise _impossible(model, ways, memory, fixed, errors)
    chosen, solution = best
    if errors is not None:
        chosen, error = _hastened(model, ways, _picked(ways, solution), errors, memory, left)
    held = network.footprint(model, chosen)
    return Tuned(chosen, bytes=held.total, error=error, gap=solution.gap)


def _hastened(
    model: Model,
    ways: _Ways,
    picks: dict[str, _Way],
    errors: "_Errors",
    memory: float,
    left: Callable[[], float],
) -> tuple[Plan, float]:
    """The choice after each node has taken the fastest way by which the network, as it is measured,
    keeps its budgets; and the error. Squares of errors add up only nearly."""
    plan = ways.plan_by(picks)
    error = errors.of(plan)
    slowest = sorted(
        ways.of, key=lambda name: min(w.seconds for w in ways.of[name]) - picks[name].seconds
    )
    for name in slowest:
        for way in sorted(ways.of[name], key=lambda w: w.seconds):
            if way.seconds >= picks[name].seconds or not left():
                break
            tried = ways.plan_by({**picks, name: way})
            if memory < inf and network.footprint(model, tried).total > memory:
                continue
            if (found := errors.of(tried)) <= errors.accuracy:
                picks, plan, error = {**picks, name: way}, tried, found
                break
    return plan, error


class _Errors:
    """How far the network's outputs are from the exact ones, and what each node adds.

    Errors of nodes are taken as independent: their squares, each times the square of how much of
    it arrives at the outputs, add up to that of the outputs. How much arrives is measured, by a run
    of the network in which that node alone is less exact.
    """

    def __init__(
        self,
        model: Model,
        inputs: Sequence[Any],
        ways: _Ways,
        accuracy: float,
        against: str,
        left: Callable[[], float],
    ) -> None:
        self.accuracy = accuracy
        self._model, self._inputs = model, inputs
        self.exactest = {name: min(of, key=_inexactness) for name, of in ways.of.items()}
        least = ways.plan_by(self.exactest)
        if against == "float64":
            self._exact = network.exact(model, inputs)
        else:
            self._exact = self._outputs(least)
        self.least = self.of(least)
        if self.least > accuracy:
            self._look_for_less(ways, left)
        self.arrives: dict[str, float] = {}
        for name, of in ways.of.items():
            worst = max((w for w in of if isfinite(w.error)), key=lambda w: w.error)
            if worst is self.exactest[name] or worst.error <= 0 or not left():
                continue
            error = self.of(ways.plan_by({**self.exactest, name: worst}))
            square = max(0.0, error**2 - self.least**2)
            self.arrives[name] = square / worst.error**2

    def added(self, name: str, way: _Way) -> float:
        """To the square of the outputs' error."""
        if way is self.exactest[name]:
            return 0.0
        # Where it was not measured all of it arrives.
        return self.arrives.get(name, 1.0) * way.error**2 if isfinite(way.error) else inf

    def of(self, plan: Plan) -> float:
        return network.distance(self._outputs(plan), self._exact)

    def excess(self, error: float, picks: dict[str, _Way], scale: float) -> float:
        """How many times as much the nodes add as they were told to."""
        told = scale * sum(self.added(name, way) for name, way in picks.items())
        return max(1.2, (error**2 - self.least**2) / told) if told > 0 else 2.0

    def _look_for_less(self, ways: _Ways, left: Callable[[], float]) -> None:
        """Errors of normal numbers say little of those near float32's own: tries all, node by
        node."""
        for name, of in ways.of.items():
            for way in of:
                if way is self.exactest[name] or not left():
                    continue
                tried = {**self.exactest, name: way}
                error = self.of(ways.plan_by(tried))
                if error < self.least:
                    self.least, self.exactest = error, tried

    def _outputs(self, plan: Plan) -> list[Any]:
        return network.outputs_of(network.by(self._model, plan), self._inputs)


def _ways(
    node: PlannedNode, problem: _core.Problem, times: database.Times, named: bool
) -> list[_Way]:
    rows = {row.algorithm: row for row in database.preferred(times.rows(problem.key))}
    found = [
        _Way(row.algorithm, row.seconds, row.packed, row.workspace, _or_inf(row.error))
        for row in rows.values()
        if (named or row.unasked or row.algorithm == node.algorithm)
        and not problem.refusal(row.algorithm)
    ]
    return found if node.algorithm in rows else []


def _or_inf(error: float | None) -> float:
    return inf if error is None else error


def _inexactness(way: _Way) -> tuple[float, float]:
    return way.error, way.seconds


def _solve(ways: _Ways, memory: float, errors: _Errors | None, scale: float) -> Solution | None:
    nodes = [
        [
            Choice(
                way.seconds,
                way.packed,
                way.workspace,
                0.0 if errors is None else scale * errors.added(name, way),
            )
            for way in of
        ]
        for name, of in ways.of.items()
    ]
    square = inf
    if errors is not None:
        square = errors.accuracy**2 - errors.least**2
        if square < 0:
            return None
    return solve(nodes, memory, square)


def _picked(ways: _Ways, solution: Solution) -> dict[str, _Way]:
    return {
        name: of[pick] for (name, of), pick in zip(ways.of.items(), solution.picks, strict=True)
    }


def _impossible(
    model: Model, ways: _Ways, memory: float, fixed: float, errors: _Errors | None
) -> _Impossible:
    """Which budget cannot be kept, the least that is possible, and the layer that needs most."""
    if errors is not None and errors.least > errors.accuracy:
        worst = max(ways.of, key=lambda name: errors.exactest[name].error, default="")
        layer = ways.labels.get(worst, "no layer with a choice")
        return _Impossible(
            f"accuracy={errors.accuracy:g} cannot be kept: with the most exact algorithm of every "
            f"layer the outputs are {errors.least:.2g} away, and {layer} is the least exact",
            errors.least,
        )
    leanest = {name: min(of, key=lambda w: w.packed + w.workspace) for name, of in ways.of.items()}
    plan = ways.plan_by(leanest)
    least = network.footprint(model, plan)
    layer, needs = network.largest(model, plan)
    both = " together with that accuracy" if errors is not None and least.total <= memory else ""
    return _Impossible(
        f"memory={int(memory)} bytes cannot be kept{both}: the least that is possible is "
        f"{least.total} bytes ({least.packed} packed weights, {least.workspace} workspace, "
        f"{least.activations} activations), of which {layer} needs {needs}",
        least.total,
    )
