"""What `swap_backend` gives back: a network that the framework runs."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from statistics import median
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ai3 import _core, arrays, file
from ai3.errors import PlanError
from ai3.graph import Graph, Node, assemble, expression
from ai3.graph.choose_layouts import Layouts
from ai3.graph.compile import Compiled, Pins, compile_graph, general_names
from ai3.graph.halve_weights import halve_weights
from ai3.graph.parts import cut
from ai3.graph.resize import Resizable
from ai3.graph.weights import WeightStore
from ai3.layers import Layer
from ai3.plan import MODEL, Plan, planned, taken
from ai3.report import NodeProfile, Report, operations_of

if TYPE_CHECKING:
    from ai3.explanation.explanation import Explanation
    from ai3.tuning.tuned import Tuned


class Model:
    """A network whose operations run the algorithms that were selected. For inference.

    Made by `swap_backend`, or from layers that run one after the other. Takes inputs of any shape
    that the network takes: a plan for a shape is made when it is first met, from that for a shape
    that is near where one was met before; the latest are kept, as many as 32 MB hold.
    Safe to call from several threads at a time. Raises ValueError for a shape that does not fit
    and TypeError for an array of a dtype that the network does not take, or not in CPU memory.
    """

    _kept_bytes = 32 << 20
    _kept_sizes = 16
    _most_tried = 4  # of the sizes that are near
    _graph: Graph
    _pins: tuple[Pins, ...]
    _latest: tuple[_core.Spec, ...] | None

    def __init__(self, layers: Sequence[Layer]) -> None:
        nodes = []
        value = "input"
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layer {index} is a {type(layer).__name__}, not an ai3 layer")
            node = Node(
                name=f"{layer.op}_{index}",
                op=layer.op,
                inputs=(value,),
                attributes=layer.attributes,
                weights=layer.weights,
                algorithm=layer.algorithm,
            )
            nodes.append(node)
            value = node.name
        self._set_graph(Graph(("input",), tuple(nodes), (value,)))

    @classmethod
    def from_graph(cls, graph: Graph, unsupported: str = "raise") -> "Model":
        """The model of a graph; `unsupported` as for `swap_backend`."""
        model = cls.__new__(cls)
        model._set_graph(graph, unsupported)
        return model

    @property
    def graph(self) -> Graph:
        """The network for inputs of any shape; print it to read it."""
        return self._graph

    def graph_for(self, *inputs: Any) -> Graph:
        """The graph as it runs for inputs of the shapes of these arrays, after every pass."""
        if not isinstance(self._parts[0], Graph) or len(self._parts) > 1:
            raise ValueError("a model of which torch runs some nodes has no single such graph")
        compiled = self._compiled(self._parts[0], self._specs_of(self._readable(inputs)))
        return compiled.graph.with_algorithms(compiled.algorithms)

    def prepare(self, *inputs: Any) -> None:
        """Plan for inputs of the shapes of these arrays, as their first call would; where torch
        runs some nodes, that is done by running the network on them."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Graph):
            self._prepare(self._parts[0], self._readable(inputs))
        else:
            self(*inputs)

    @property
    def weights(self) -> Mapping[str, _core.Weights]:
        """The weights of each node, by its name."""
        return {node.name: self._weights.of(node.weights) for node in self._graph.nodes}

    def __call__(self, *inputs: Any) -> Any:
        """The network's output, or outputs as it has them, in the type of the first input."""
        results = self._run(self._readable(inputs), own=False)
        results = [
            arrays.each(result, lambda array: arrays.like(inputs[0], array)) for result in results
        ]
        return assemble(self._graph.structure, tuple(results))

    def predict(self, input: Any, out_type: type | None = None) -> Any:
        """The network's output as an `ai3.Tensor`, or as `out_type`.

        Args:
            input: the input, (N, ...) or unbatched; a tuple for a network with several.
            out_type: torch.Tensor, numpy.ndarray, memoryview or ai3.Tensor.
        """
        inputs = input if isinstance(input, tuple) else (input,)
        results = self._run(self._readable(inputs), own=True)
        if out_type is not None:
            results = [arrays.each(result, lambda array: array.to(out_type)) for result in results]
        return assemble(self._graph.structure, tuple(results))

    def profile(self, *inputs: Any, repeat: int = 5) -> list[NodeProfile]:
        """Run some times and tell the time, algorithm and output shape of each node."""
        self(*inputs)
        runs: list[list[NodeProfile]] = []
        for _ in range(max(1, repeat)):
            runs.append([])
            self._run(self._readable(inputs), own=False, profile=runs[-1])
        return [row.with_ms(median(run[i].ms for run in runs)) for i, row in enumerate(runs[0])]

    def report(self, *inputs: Any, repeat: int = 5) -> Report:
        """What each node took, by which algorithm, and its share: print it, or take its `json()`
        or its `chart(path)`. Without inputs, for those of the latest call."""
        inputs = self._given_or_latest(inputs, "report")
        return Report(self.profile(*inputs, repeat=repeat), _core.max_threads())

    def explain(self, *inputs: Any, repeat: int = 5, errors: bool = True) -> "Explanation":
        """What each node takes, which of the machine's limits it meets, how far it is from float64,
        the memory it adds, and what other algorithms would take, or why they cannot do it: print
        it, index it by a node's name, or take its `json()`, `chart(path)` or `html(path)`.

        Args:
            inputs: for the network; those of the latest call's shapes, of zeros, by default.
            repeat: how many runs the times are medians of.
            errors: whether to compute all in float64 too, which takes some times as long.
        """
        from ai3.explanation.of_model import explain

        return explain(self, self._given_or_latest(inputs, "explain"), repeat, errors)

    def set_algorithms(self, names: Mapping[str, str]) -> None:
        """Give nodes of the graph, by their names, other algorithms."""
        self._set_graph(self._graph.with_algorithms(names), self._unsupported)

    def plan(self, *inputs: Any) -> Plan:
        """What each node runs for inputs of the shapes of these arrays, or of the latest call:
        algorithm, layouts and dtypes, with the time and error that are known of it. Save it to do
        exactly that again."""
        self._require_plans()
        if inputs:
            self.prepare(*inputs)
            self._latest = _core.specs_of(self._readable(inputs))
        if self._latest is None:
            raise ValueError("call the model first, or give plan() an input")
        return planned(
            [self._compiled(graph, self._specs_of_part(graph)) for graph in self._graphs],
            self._graph.precision,
        )

    def use(self, plan: "Plan | str | PathLike[str]") -> None:
        """Run exactly what a plan says, for inputs as it was made for; for others its algorithms,
        in layouts that suit them. Raises PlanError, which says where, for a plan of another
        network; then the model is what it was."""
        self._require_plans()
        plan = taken(plan)
        graphs = self._graphs
        if plan.kind != MODEL or len(plan.parts) != len(graphs):
            made = f"of {len(plan.parts)} graphs" if plan.kind == MODEL else "for swap_conv2d"
            raise PlanError(f"the plan is {made}; the network is one of {len(graphs)}")
        if plan.precision != self._graph.precision:
            raise PlanError(
                f"the plan is for precision={plan.precision!r}; the network has "
                f"{self._graph.precision!r}"
            )
        pins = [part.pins() for part in plan.parts]
        for graph, own in zip(graphs, pins, strict=True):
            try:
                compile_graph(graph, own.specs, self._weights, self._unsupported, pins=own)
            except (TypeError, ValueError) as error:
                raise PlanError(f"the plan does not fit the network: {error}") from error
        self._pin(pins)

    def tune(self, *inputs: Any, **how: Any) -> "Tuned":
        """Measure which algorithms and layouts are the fastest for these inputs, within budgets if
        asked, and use them from now on: `ai3.tune`, in place."""
        from ai3.tuning import tune

        return tune(self, *inputs, **how)

    def refusal_of_plans(self) -> str:
        """Why the model has no plans and cannot be tuned; empty where it can."""
        return ""

    def _require_plans(self) -> None:
        if refusal := self.refusal_of_plans():
            raise ValueError(refusal)

    def forget_packed(self) -> None:
        """Free what algorithms have packed of the weights, but for plans that somebody runs; what
        is needed is packed again by the next call."""
        latest, pins = self._latest, self._pins
        self._weights = WeightStore(self._graph)
        self._replan(self._graph)
        self._latest, self._pins = latest, pins

    def save(self, path: str | PathLike[str], *, precision: str | None = None) -> None:
        """Write the model to one file that `ai3.load` reads: weights in safetensors, the graph in
        JSON.

        Args:
            path: the file's.
            precision: that of the file's weights: "bfloat16" rounds those of float32, which halves
                it; by default they are kept as they are.

        Raises:
            ValueError: a model that partly runs in torch, another precision.
        """
        file.save(self._graph, self._unsupported, path, precision)

    def __repr__(self) -> str:
        return f"ai3.Model(\n{self._graph}\n)"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "graph": self._graph,
            "unsupported": self._unsupported,
            "pins": [
                (
                    [(spec.dtype, spec.shape) for spec in own.specs],
                    *map(dict, (own.algorithms, own.layouts, own.expansions)),
                )
                for own in self._pins
            ],
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set_graph(state["graph"], state["unsupported"])
        self._pins = tuple(
            Pins(tuple(_core.Spec(*spec) for spec in specs), *rest)
            for specs, *rest in state.get("pins", ())
        )

    def _set_graph(self, graph: Graph, unsupported: str = "raise") -> None:
        graph = halve_weights(graph)
        self._weights = WeightStore(graph)
        self._unsupported = unsupported
        self._pins = ()
        self._own = graph  # with the algorithms that its user chose
        self._replan(graph)

    def _replan(self, graph: Graph) -> None:
        """Forget all plans; what algorithms have packed of the weights stays."""
        self._graph = graph
        self._parts = cut(graph)
        self._plans: OrderedDict[Any, _Plan] = OrderedDict()
        self._near: dict[int, list[_Known]] = {}
        self._lock, self._compiling = Lock(), Lock()
        self._latest = None
        self._latest_of: dict[int, tuple[_core.Spec, ...]] = {}  # of parts, where there are several

    def _pin(self, pins: Sequence[Pins]) -> None:
        """From now on run what these say, one for each part that is a graph; for inputs of other
        specs, their algorithms."""
        latest, names = self._latest, {}
        for graph, own in zip(self._graphs, pins, strict=True):
            names.update(general_names(graph, own, self._weights))
        self._replan(self._own.with_algorithms(names))
        self._pins, self._latest = tuple(pins), latest

    @property
    def _graphs(self) -> list[Graph]:
        return [part for part in self._parts if isinstance(part, Graph)]

    def _specs_of_part(self, part: Graph) -> tuple[_core.Spec, ...]:
        assert self._latest is not None
        if len(self._parts) == 1:
            return self._latest
        if id(part) not in self._latest_of:
            self(*map(self._zeros, self._latest))
        return self._latest_of[id(part)]

    def _pins_of(self, part: Graph, specs: tuple[_core.Spec, ...]) -> Pins | None:
        if not self._pins:
            return None
        own = next(p for g, p in zip(self._graphs, self._pins, strict=True) if g is part)
        return own if own.specs == specs else None

    def _given_or_latest(self, inputs: tuple[Any, ...], method: str) -> tuple[Any, ...]:
        if inputs:
            return inputs
        if self._latest is None:
            raise ValueError(f"call the model first, or give {method}() an input")
        return tuple(map(self._zeros, self._latest))

    def _readable(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs) != len(self._graph.inputs):
            raise ValueError(f"the model takes {len(self._graph.inputs)} inputs, not {len(inputs)}")
        arrays.follow_torch_threads()
        return [arrays.readable(array) for array in inputs]

    def _specs_of(self, inputs: Sequence[Any]) -> tuple[_core.Spec, ...]:
        return _core.specs_of(inputs)

    def _zeros(self, spec: _core.Spec) -> Any:
        return arrays.zeros(spec)

    def _prepare(self, part: Graph, inputs: Sequence[Any]) -> tuple[_core.Executor, Any]:
        specs = _core.specs_of(inputs)
        key = (id(part), specs, _core.max_threads())
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan.executor, specs
        with self._compiling:
            plan = self._plans.get(key)
            if plan is None and self._pins_of(part, specs) is None:
                plan = self._resized(part, specs)
            if plan is None:
                compiled = self._compiled(part, specs)
                plan = _Plan(compiled.executor, compiled.bytes)
        with self._lock:
            self._plans[key] = plan
            kept = sum(plan.bytes for plan in self._plans.values())
            while kept > self._kept_bytes and len(self._plans) > len(self._parts):
                kept -= self._plans.popitem(last=False)[1].bytes
        return plan.executor, specs

    def _resized(self, part: Graph, specs: tuple[_core.Spec, ...]) -> "_Plan | None":
        """The plan made of one for a size that is near, if one of those kept allows it."""
        tried = 0
        for known in self._near.get(id(part), ()):
            if known.resizable is not None and _are_near(known.searched, specs):
                executor = known.resizable.executor(specs)
                if executor is not None:
                    return _Plan(executor, known.bytes)
                tried += 1
                if tried == self._most_tried:
                    break
        return None

    def _compiled(self, part: Graph, specs: tuple[_core.Spec, ...]) -> Compiled:
        if (pins := self._pins_of(part, specs)) is not None:
            return compile_graph(part, specs, self._weights, self._unsupported, pins=pins)
        known = self._near.setdefault(id(part), [])
        near = [each for each in known if _are_near(each.searched, specs)]
        like = [each.layouts for each in near]
        compiled = compile_graph(part, specs, self._weights, self._unsupported, like)
        layouts = compiled.layouts
        searched = next((each.searched for each in near if each.layouts is layouts), specs)
        if all(each.specs != specs for each in known):
            known.append(_Known(specs, searched, layouts, compiled.resizable, compiled.bytes))
            del known[: -self._kept_sizes]
        return compiled

    def _run(
        self, inputs: Sequence[Any], own: bool, profile: list[NodeProfile] | None = None
    ) -> list[Any]:
        """The outputs, as ai3's tensors if `own`. What every node took is added to `profile`."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Graph):
            executor, self._latest = self._prepare(self._parts[0], inputs)
            if profile is not None:
                profile += _measure(self._compiled(self._parts[0], self._latest), inputs)
            return executor(inputs, own)
        self._latest = self._specs_of(inputs)
        values = dict(zip(self._graph.inputs, map(arrays.to_torch, inputs), strict=True))
        for part in self._parts:
            if isinstance(part, Node):
                values[part.name] = _run_foreign(part, values, profile)
                continue
            given = [values[name] for name in part.inputs]
            executor, specs = self._prepare(part, given)
            self._latest_of[id(part)] = specs
            if profile is not None:
                profile += _measure(self._compiled(part, specs), given)
            values.update(zip(part.outputs, executor(given, False), strict=True))
        results = [values[name] for name in self._graph.outputs]
        return [arrays.each(result, _core.Tensor) for result in results] if own else results


@dataclass(frozen=True)
class _Plan:
    """What runs inputs of one shape, and about how many bytes it holds."""

    executor: _core.Executor
    bytes: int


@dataclass(frozen=True)
class _Known:
    """A size that was planned from the start, in layouts that were searched for at `searched`."""

    specs: tuple[_core.Spec, ...]
    searched: tuple[_core.Spec, ...]
    layouts: Layouts
    resizable: Resizable | None
    bytes: int


def _are_near(met: Sequence[_core.Spec], specs: Sequence[_core.Spec]) -> bool:
    """Whether arrays are so alike in size that the same layouts suit them."""
    return all(
        a.dtype == b.dtype
        and len(a.shape) == len(b.shape)
        and all(m == n or (m < 4 * n and n < 4 * m) for m, n in zip(a.shape, b.shape, strict=True))
        for a, b in zip(met, specs, strict=True)
    )


def _run_foreign(node: Node, values: Mapping[str, Any], profile: list[NodeProfile] | None) -> Any:
    shapes = {name: tuple(v.shape) for name, v in values.items() if hasattr(v, "shape")}
    attributes = {
        name: expression.evaluate(value, shapes) for name, value in node.attributes.items()
    }
    assert node.call is not None
    started = perf_counter()
    result = node.call(*(values[name] for name in node.inputs), **attributes)
    if profile is not None:
        ms = 1e3 * (perf_counter() - started)
        shape = tuple(getattr(result, "shape", ()))
        profile.append(NodeProfile(node.label, node.op, "torch", shape, ms))
    return result


def _measure(compiled: Compiled, inputs: Sequence[Any]) -> list[NodeProfile]:
    """One run of a compiled graph, node by node."""
    times = dict(zip(compiled.steps, compiled.executor.profile(inputs), strict=False))
    rows = []
    for node in compiled.graph.nodes:
        problem = compiled.problems.get(node.name)
        if problem is not None:
            rows.append(
                NodeProfile(
                    name=node.label,
                    op=node.op,
                    algorithm=compiled.algorithms[node.name],
                    shape=problem.output.shape,
                    ms=times.get(node.name, 0.0),
                    flops=operations_of(node, problem),
                    layout=problem.output.layout,
                    dtype=problem.output.dtype,
                )
            )
    return rows
