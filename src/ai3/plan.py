"""What one network's choice of algorithms and layouts came to, as a file that does it again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai3 import _core, arrays
from ai3.errors import PlanError
from ai3.graph.choose_layouts import Form
from ai3.graph.compile import Compiled, Pins
from ai3.platforms import supported
from ai3.selector import Conv2dAlgorithms

if TYPE_CHECKING:
    from ai3.tuning.database import Times

FORMAT = 1
MODEL, MODULES = "model", "modules"
COMPARED = ("op", "algorithm", "reads", "writes", "expands", "grad_input", "grad_weight")


@dataclass(frozen=True)
class PlannedNode:
    """One node of a graph, before what is fused by layouts, or one module.

    `algorithm` is no "default"; `reads` and `writes` are the dtypes and layouts of its arrays, and
    `chosen` the attributes that say so; `expands` names the convolution before it with which it is
    one operation. `ms` and `error` (relative, L2, against float64) are what was measured or, of the
    time, is estimated; None where nothing is known. Gradients' algorithms are those of a module.
    """

    name: str
    op: str
    module: str
    algorithm: str
    reads: tuple[Form, ...] = ()
    writes: Form = ("float32", "dense")
    chosen: Mapping[str, str] = field(default_factory=dict)
    expands: str = ""
    ms: float | None = None
    error: float | None = None
    grad_input: str | None = None
    grad_weight: str | None = None

    @property
    def label(self) -> str:
        return self.module or self.name


@dataclass(frozen=True)
class PlannedPart:
    """A graph for inputs of these specs: all of a network, or what lies between nodes that torch
    runs."""

    inputs: tuple[_core.Spec, ...]
    nodes: tuple[PlannedNode, ...]

    def pins(self) -> Pins:
        return Pins(
            self.inputs,
            {node.name: node.algorithm for node in self.nodes if node.algorithm},
            {node.name: (node.reads, node.chosen) for node in self.nodes},
            {node.name: node.expands for node in self.nodes if node.expands},
        )


@dataclass(frozen=True)
class Difference:
    """What of a node is not the same in two plans; None where one has no such node."""

    node: str
    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """The algorithms, layouts and dtypes of a network, and the machine that they were chosen on.

    `swap_backend`, `swap_conv2d` and `load` take it, or the file that `save` writes. Printed, it
    is a line for each node.
    """

    kind: str
    parts: tuple[PlannedPart, ...]
    machine: Mapping[str, Any]
    precision: str = "float32"

    @property
    def nodes(self) -> tuple[PlannedNode, ...]:
        return tuple(node for part in self.parts for node in part.nodes)

    @property
    def ms(self) -> float:
        """What all nodes of which it is known take."""
        return sum(node.ms or 0.0 for node in self.nodes)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it as JSON, a line for each node, whole or not at all."""
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            part.write_text("".join(_lines(self)))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def modules(self) -> dict[str, Conv2dAlgorithms]:
        """For `swap_conv2d`: the algorithms of each convolution of images, by its module."""
        found = {}
        for node in self.nodes:
            if node.op == "conv2d" and node.module:
                chosen = (node.algorithm, node.grad_input, node.grad_weight)
                found[node.module] = Conv2dAlgorithms(*(name or "default" for name in chosen))
        return found

    def compare(self, other: "Plan") -> list[Difference]:
        """What is not the same in another plan: of the nodes the algorithms, layouts and dtypes;
        not their times, nor the machine."""
        found = []
        before, after = ({node.name: node for node in plan.nodes} for plan in (self, other))
        for name in dict.fromkeys([*before, *after]):
            a, b = before.get(name), after.get(name)
            if a is None or b is None:
                node = a or b
                assert node is not None
                algorithms = [each and each.algorithm for each in (a, b)]
                found.append(Difference(node.label, "node", *algorithms))
                continue
            pairs = {what: (getattr(a, what), getattr(b, what)) for what in COMPARED}
            found += [Difference(a.label, what, *p) for what, p in pairs.items() if p[0] != p[1]]
        return found

    def __str__(self) -> str:
        rows = [("node", "algorithm", "reads", "writes", "ms")]
        rows += [
            (
                node.label,
                node.algorithm,
                _forms(node.reads),
                _form(node.writes),
                "" if node.ms is None else f"{node.ms:.3f}",
            )
            for node in self.nodes
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def load_plan(path: str | PathLike[str]) -> Plan:
    """The plan that `Plan.save` wrote. Raises PlanError for any other file."""
    try:
        document = json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is no plan: {error}") from None
    try:
        if document["format"] != FORMAT:
            raise PlanError(
                f"{path} is a plan of format {document['format']!r}; this ai3 reads {FORMAT}"
            )
        parts = tuple(
            PlannedPart(
                tuple(_core.Spec(dtype, shape) for dtype, shape in part["inputs"]),
                tuple(map(_decoded, part["nodes"])),
            )
            for part in document["parts"]
        )
        kind, precision = document["kind"], document["precision"]
        if kind not in (MODEL, MODULES):
            raise ValueError(f"its kind is {kind!r}")
        return Plan(kind, parts, dict(document["machine"]), precision)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{path} is no plan, or damaged: {error!r}") from None


def planned(compiled: Sequence[Compiled], precision: str) -> Plan:
    """The plan of a network's graphs, with the times and errors that the database has."""
    from ai3.tuning import database

    times = database.opened() or database.Times(None)
    parts = tuple(_part(each, times) for each in compiled)
    return Plan(MODEL, parts, here(), precision)


def here() -> dict[str, Any]:
    """The machine, as plans name it."""
    from ai3.tuning import database

    arrays.follow_torch_threads()
    return {**database.here()._asdict(), "threads": _core.max_threads()}


def _part(compiled: Compiled, times: "Times") -> PlannedPart:
    before = compiled.before
    nodes = []
    for node in before.nodes:
        reads, chosen = compiled.layouts[node.name]
        # Of two nodes that are one, the second has its name, and both are the direct algorithm's.
        one = node.name in compiled.expansions or node.name in compiled.expansions.values()
        algorithm = "direct" if one else compiled.algorithms.get(node.name, "")
        problem = compiled.problems.get(node.name)
        ms = error = None
        if problem is not None and not one:
            ms, error = times.expected(problem, algorithm)
        spec = before.specs[node.name] if problem is None else problem.output
        nodes.append(
            PlannedNode(
                node.name,
                node.op,
                node.module,
                algorithm,
                reads,
                (chosen.get("output_dtype", spec.dtype), chosen.get("output_layout", spec.layout)),
                dict(chosen),
                compiled.expansions.get(node.name, ""),
                ms,
                error,
            )
        )
    inputs = tuple(before.specs[name] for name in before.inputs)
    return PlannedPart(inputs, tuple(nodes))


def taken(plan: "Plan | str | PathLike[str]") -> Plan:
    """A plan, be it given as a file."""
    return plan if isinstance(plan, Plan) else load_plan(plan)


def _lines(plan: Plan) -> Iterator[str]:
    head = {
        "format": FORMAT,
        "kind": plan.kind,
        "precision": plan.precision,
        "machine": dict(plan.machine),
    }
    yield "{\n"
    for key, value in head.items():
        yield f' "{key}": {json.dumps(value)},\n'
    yield ' "parts": [\n'
    for i, part in enumerate(plan.parts):
        inputs = [[spec.dtype, list(spec.shape)] for spec in part.inputs]
        yield f'  {{"inputs": {json.dumps(inputs)},\n   "nodes": [\n'
        for k, node in enumerate(part.nodes):
            comma = "," if k + 1 < len(part.nodes) else ""
            yield f"    {json.dumps(_encoded(node))}{comma}\n"
        yield "   ]}" + ("," if i + 1 < len(plan.parts) else "") + "\n"
    yield " ]\n}\n"


def _encoded(node: PlannedNode) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": node.name, "op": node.op}
    if node.module:
        entry["module"] = node.module
    entry |= {
        "algorithm": node.algorithm,
        "reads": [_form(form) for form in node.reads],
        "writes": _form(node.writes),
    }
    if node.chosen:
        entry["chosen"] = dict(node.chosen)
    if node.expands:
        entry["expands"] = node.expands
    for name in ("ms", "error"):
        if (value := getattr(node, name)) is not None:
            entry[name] = float(f"{value:.3g}")
    for name in ("grad_input", "grad_weight"):
        if (value := getattr(node, name)) is not None:
            entry[name] = value
    return entry


def _decoded(entry: Mapping[str, Any]) -> PlannedNode:
    node = PlannedNode(
        name=_text(entry["name"]),
        op=_text(entry["op"]),
        module=_text(entry.get("module", "")),
        algorithm=_text(entry["algorithm"]),
        reads=tuple(map(_parsed, entry["reads"])),
        writes=_parsed(entry["writes"]),
        chosen={_text(k): _text(v) for k, v in entry.get("chosen", {}).items()},
        expands=_text(entry.get("expands", "")),
        ms=entry.get("ms"),
        error=entry.get("error"),
        grad_input=entry.get("grad_input"),
        grad_weight=entry.get("grad_weight"),
    )
    named = [
        (node.op, node.algorithm),
        ("conv2d_grad_input", node.grad_input),
        ("conv2d_grad_weight", node.grad_weight),
    ]
    for op, algorithm in named:
        if algorithm and algorithm not in (known := supported().get(op, [algorithm])):
            raise PlanError(
                f"the plan has {algorithm!r} for {node.label}, which is no algorithm of {op} here; "
                f"there are {', '.join(known)}"
            )
    return node


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _form(form: Form) -> str:
    return " ".join(form)


def _forms(forms: Sequence[Form]) -> str:
    return ", ".join(dict.fromkeys(map(_form, forms)))


def _parsed(text: str) -> Form:
    dtype, layout = _text(text).split(" ")
    return dtype, layout
