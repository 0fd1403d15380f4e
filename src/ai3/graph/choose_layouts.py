"""Choose the layout, and where that is permitted the dtype, of values in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import inf, isfinite
from statistics import median
from typing import TypeAlias

from ai3 import _core
from ai3.errors import PlanError
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import REAL, problem_of
from ai3.graph.weights import WeightStore
from ai3.ops import LAYOUTS

WRITES_ANY = ("conv2d", "permute")
"""Operations with an attribute `output_layout`; others write the layout that they read."""

SUMS = ("conv2d", "linear")
"""Operations that sum in float32 what they read in either dtype, and write either, where their
algorithms do not refuse to; others write the dtype that they read."""

EXACT = ("softmax",)
"""Operations that stay in float32 where rounding is permitted: most of their small results would
lose what tells them apart."""

MOST_SWEEPS = 8

STEP_CYCLES = 2000
"""What a step more costs, whatever it does."""


Form: TypeAlias = tuple[str, str]
"""The dtype and layout of a value in memory."""


@dataclass(frozen=True)
class Option:
    """A node that reads its inputs and writes its output in certain forms, and what it takes by
    estimate, in cycles."""

    node: Node
    inputs: tuple[Form, ...]
    output: _core.Spec
    cost: float
    problem: _core.Problem | None = None

    @property
    def written(self) -> Form:
        return form_of(self.output)


Layouts: TypeAlias = Mapping[str, tuple[tuple[Form, ...], Mapping[str, str]]]
"""By the names of nodes the forms in which they read their inputs and the attributes that say in
which they write their output, where they have that choice."""


def form_of(spec: _core.Spec) -> Form:
    return spec.dtype, spec.layout


def choose_layouts(
    graph: Graph, weights: WeightStore, like: Iterable[Layouts] = (), narrow: bool = False
) -> tuple[Graph, Layouts]:
    """The graph whose convolutions and other operations on images use the layouts that take least
    by the estimates of their algorithms, with a `reorder` wherever a value is read in another
    layout than it is written in. The inputs and outputs of the graph stay dense.

    Where `narrow` permits it, values of float32 may be bfloat16 too, but for the graph's inputs and
    outputs, wherever an algorithm computes with it.

    Dynamic programming along the nodes, in which all that read a value share its cost: exact where
    each value is read once. After that nodes change one by one while that saves something.

    `like` are layouts that were chosen for this graph of other sizes: the first that are for the
    same nodes are taken over.
    """
    for layouts in like:
        taken = _taken_over(graph, weights, layouts)
        if taken is not None:
            return _with_reorders(graph, taken), layouts
    options = {node.name: list(options_of(node, graph, weights, narrow)) for node in graph.nodes}
    if _core.times_in_use():
        options = {name: _calibrated(choices) for name, choices in options.items()}
    if all(len(choices) == 1 for choices in options.values()):
        return graph, {name: (only.inputs, {}) for name, (only,) in options.items()}
    chosen = _improved(graph, options, _cheapest(graph, options))
    layouts = {name: (option.inputs, _choice(option.node)) for name, option in chosen.items()}
    return _with_reorders(graph, chosen), layouts


def uniform_layouts(
    graph: Graph, weights: WeightStore, form: Form, narrow: bool = False
) -> Layouts:
    """Those in which as many images as can be are in one form."""

    def rank(option: Option) -> tuple[int, float]:
        return -sum(each == form for each in (*option.inputs, option.written)), option.cost

    best = (min(options_of(n, graph, weights, narrow), key=rank) for n in graph.nodes)
    return {option.node.name: (option.inputs, _choice(option.node)) for option in best}


def with_layouts(graph: Graph, weights: WeightStore, layouts: Layouts) -> tuple[Graph, Layouts]:
    """The graph in these layouts. Raises PlanError, with the node, where they are not for it."""
    for node in graph.nodes:
        inputs, choice = layouts[node.name]
        fits = len(inputs) == len(node.inputs)
        option = _option(node, graph, weights, inputs, choice) if fits and node.inputs else None
        reason = ""
        if node.inputs and option is None:
            reason = "it reads others"
        elif option is not None:
            reason = option[1].refusal(node.algorithm)
        if reason:
            forms = ", ".join(" ".join(form) for form in inputs)
            raise PlanError(
                f"{node.label} ({node.op}) cannot run {node.algorithm!r} on {forms or 'nothing'}, "
                f"as the plan has it: {reason}"
            )
    taken = _taken_over(graph, weights, layouts)
    assert taken is not None
    return _with_reorders(graph, taken), layouts


def _choice(node: Node) -> dict[str, str]:
    names = ("output_layout", "output_dtype")
    return {name: node.attributes[name] for name in names if name in node.attributes}


def _taken_over(graph: Graph, weights: WeightStore, layouts: Layouts) -> dict[str, Option] | None:
    """The nodes in these layouts; None where they are for others, or the core cannot do it so."""
    if layouts.keys() != {node.name for node in graph.nodes}:
        return None
    found = {}
    for node in graph.nodes:
        inputs, choice = layouts[node.name]
        if len(inputs) != len(node.inputs):
            return None
        output = graph.specs[node.name]
        forms = tuple(form_of(graph.specs[name]) for name in node.inputs)
        if choice or inputs != forms:
            option = _option(node, graph, weights, inputs, choice)
            if option is None or option[1].refusal(node.algorithm):
                return None
            node, output = option[0], option[1].output
        found[node.name] = Option(node, inputs, output, 0.0)
    return found


def _option(
    node: Node,
    graph: Graph,
    weights: WeightStore,
    forms: Sequence[Form],
    choice: Mapping[str, str],
) -> tuple[Node, _core.Problem] | None:
    """The node with its inputs in these forms, and its problem; None where it takes no such."""
    attributes = {**node.attributes, **choice}
    specs = [_in_form(*pair) for pair in zip(_specs(node, graph), forms, strict=True)]
    try:
        problem = _core.problem(node.op, specs, weights.of(node.weights), attributes)
    except ValueError:
        return None
    return node.having(attributes=attributes) if choice else node, problem


def _specs(node: Node, graph: Graph) -> list[_core.Spec]:
    return [graph.specs[name] for name in node.inputs]


def options_of(
    node: Node, graph: Graph, weights: WeightStore, narrow: bool = False
) -> Iterator[Option]:
    """What the core can do; first, everything dense and in the dtype that it has."""
    specs, output = _specs(node, graph), graph.specs[node.name]
    given = tuple(map(form_of, specs))
    dense = Option(node, given, output, 0.0)
    images = [len(spec.shape) == 4 and spec.dtype in REAL for spec in specs]
    reals = {spec.dtype for spec in (*specs, output)} if node.op != CONSTANT else set()
    narrow = narrow and bool(specs) and reals == {"float32"} and node.op not in EXACT
    if not (narrow or any(images)) or not reals & set(REAL) or output.dtype not in REAL:
        yield dense
        return
    problem = problem_of(node, graph.specs, weights)
    yield replace(dense, cost=_estimate(problem, node.algorithm), problem=problem)
    layouts = LAYOUTS if any(images) else ("dense",)
    outputs: tuple[str | None, ...] = layouts if node.op in WRITES_ANY else (None,)
    dtypes = [(specs[0].dtype, output.dtype)]
    if narrow:
        dtypes.append(("bfloat16", "bfloat16"))
        if node.op in SUMS:
            dtypes += [("bfloat16", "float32"), ("float32", "bfloat16")]
    for (before, after), read, written in product(dtypes, layouts, outputs):
        kept = (before, after) == dtypes[0]
        if kept and read == "dense" and written in ("dense", None):
            continue
        choice = {} if written is None else {"output_layout": written}
        if not kept and node.op in SUMS:
            choice["output_dtype"] = after
        forms = [
            (spec.dtype if kept else before, read if image else "dense")
            for spec, image in zip(specs, images, strict=True)
        ]
        if node.op in SUMS:  # the others are added to the output
            forms[1:] = [(after, written or "dense")] * (len(specs) - 1)
        option = _option(node, graph, weights, forms, choice)
        if option is None or option[1].refusal(node.algorithm):
            continue
        made, problem = option
        if kept or problem.takes_bfloat16(node.algorithm):
            cost = _estimate(problem, node.algorithm)
            yield Option(made, tuple(forms), problem.output, cost, problem)


def _calibrated(options: list[Option]) -> list[Option]:
    """A node's options, of which those that were never measured are estimated on the scale of those
    that were: an estimate is nearer to the truth beside another of the same node than by itself."""
    measured: dict[int, float] = {}
    for i, option in enumerate(options):
        if (problem := option.problem) is not None:
            taken = problem.measured(problem.resolve(option.node.algorithm))
            if taken is not None:
                measured[i] = taken
    if len(measured) in (0, len(options)):
        return options
    before = _core.estimates_only(True)
    try:
        estimates = [o.problem and _estimate(o.problem, o.node.algorithm) for o in options]
    finally:
        _core.estimates_only(before)
    ratios = [taken / e for i, taken in measured.items() if (e := estimates[i])]
    usual = median(measured.values())

    def cost(i: int) -> float:
        if i in measured:
            return measured[i]
        estimate = estimates[i]
        return estimate * median(ratios) if estimate and ratios else usual

    return [replace(option, cost=cost(i)) for i, option in enumerate(options)]


def _estimate(problem: _core.Problem, algorithm: str) -> float:
    """Cycles; 0 where the core has no estimate."""
    cycles = problem.cost(algorithm)
    return cycles if isfinite(cycles) else 0.0


def _in_form(spec: _core.Spec, form: Form) -> _core.Spec:
    return spec if form == form_of(spec) else _core.Spec(form[0], spec.shape, form[1])


def _reordering(before: Form, after: Form) -> dict[str, str]:
    dtype = {"output_dtype": after[0]} if before[0] != after[0] else {}
    return {"layout": after[1], **dtype}


@lru_cache(maxsize=1 << 14)
def _reorder_cost(
    shape: tuple[int, ...], before: Form, after: Form, threads: int, times: int
) -> float:
    if before == after:
        return 0.0
    spec = _core.Spec(before[0], shape, before[1])
    problem = _core.problem("reorder", [spec], None, _reordering(before, after), threads)
    if _core.same_memory(spec, problem.output):
        return 0.0
    return STEP_CYCLES + problem.cost("direct")


def cost_between(spec: _core.Spec, before: Form, after: Form) -> float:
    """Of a `reorder` between two forms, in cycles; 0 where it changes nothing in memory."""
    return _reorder_cost(spec.shape, before, after, _core.max_threads(), _core.times_in_use())


def _cheapest(graph: Graph, options: Mapping[str, Sequence[Option]]) -> dict[str, Option]:
    uses = graph.uses()
    # The least cost of each value in each form that it can be written in.
    written: dict[str, dict[Form, float]] = {
        name: {form_of(graph.specs[name]): 0.0} for name in graph.inputs
    }
    totals: dict[str, list[float]] = {}

    def read(name: str, form: Form) -> float:
        spec = graph.specs[name]
        return min(
            cost / uses[name] + cost_between(spec, before, form)
            for before, cost in written[name].items()
        )

    for node in graph.nodes:
        written[node.name] = {}
        totals[node.name] = []
        for option in options[node.name]:
            total = option.cost + sum(map(read, node.inputs, option.inputs))
            totals[node.name].append(total)
            form = option.written
            written[node.name][form] = min(total, written[node.name].get(form, inf))

    chosen: dict[str, Option] = {}
    wanted: dict[str, set[Form]] = {name: {form_of(graph.specs[name])} for name in graph.outputs}
    for node in reversed(graph.nodes):
        best = inf
        for option, total in zip(options[node.name], totals[node.name], strict=True):
            for form in wanted.get(node.name, ()):
                total += cost_between(option.output, option.written, form)
            if total < best:
                best, chosen[node.name] = total, option
        for name, form in zip(node.inputs, chosen[node.name].inputs, strict=True):
            wanted.setdefault(name, set()).add(form)
    return chosen


def _improved(
    graph: Graph, options: Mapping[str, Sequence[Option]], chosen: dict[str, Option]
) -> dict[str, Option]:
    """The choice after each node has taken the best option beside those of the others, from the
    last node to the first and over again until all keep theirs."""
    forms = {name: form_of(graph.specs[name]) for name in graph.inputs}
    forms.update((name, option.written) for name, option in chosen.items())
    wanted = {name: Counter[Form]() for name in forms}
    for name in graph.outputs:
        wanted[name][form_of(graph.specs[name])] += 1
    for option in chosen.values():
        for name, form in zip(option.node.inputs, option.inputs, strict=True):
            wanted[name][form] += 1

    def marginal(option: Option) -> float:
        total = option.cost
        for name, form in zip(option.node.inputs, option.inputs, strict=True):
            if not wanted[name][form]:  # else that reader pays for it
                total += cost_between(graph.specs[name], forms[name], form)
        for form, readers in wanted[option.node.name].items():
            if readers:
                total += cost_between(option.output, option.written, form)
        return total

    for _ in range(MOST_SWEEPS):
        before = dict(chosen)
        for node in reversed(graph.nodes):
            for name, form in zip(node.inputs, chosen[node.name].inputs, strict=True):
                wanted[name][form] -= 1
            best = min(options[node.name], key=marginal)
            if marginal(best) < marginal(chosen[node.name]):
                chosen[node.name] = best
            forms[node.name] = chosen[node.name].written
            for name, form in zip(node.inputs, chosen[node.name].inputs, strict=True):
                wanted[name][form] += 1
        if chosen == before:
            break
    return chosen


def _with_reorders(graph: Graph, chosen: Mapping[str, Option]) -> Graph:
    specs = dict(graph.specs)
    specs.update((name, option.output) for name, option in chosen.items())
    nodes: list[Node] = []
    reordered: dict[tuple[str, Form], str] = {}

    def read(name: str, form: Form) -> str:
        before = form_of(specs[name])
        if before == form:
            return name
        if (name, form) not in reordered:
            new = f"{name}_{form[1] if before[0] == form[0] else '_'.join(form)}"
            while new in specs:
                new += "_"
            specs[new] = _in_form(specs[name], form)
            nodes.append(Node(new, "reorder", (name,), _reordering(before, form)))
            reordered[name, form] = new
        return reordered[name, form]

    for node in graph.nodes:
        option = chosen[node.name]
        inputs = tuple(map(read, node.inputs, option.inputs))
        same = inputs == option.node.inputs
        nodes.append(option.node if same else option.node.having(inputs=inputs))
    outputs = tuple(read(name, form_of(graph.specs[name])) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs, specs=specs)
