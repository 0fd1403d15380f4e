"""From a torch network to a Graph.

The traced network is interpreted with stand-ins: a tensor that depends on the inputs is a `Value`,
an integer that depends on their shapes an `Expression`, everything else is itself. What is called
with neither is simply called.
"""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ai3 import _core, arrays
from ai3.errors import UnsupportedCallableError
from ai3.graph import Expression, Graph, Node, Plain, Record, Weight
from ai3.graph.graph import CONSTANT, FOREIGN, KINDS, NARROW_WEIGHTS
from ai3.ops import OPERATIONS, REQUIRED, Operation
from ai3.torch import attention, foreign, lowerings
from ai3.torch.stand_ins import Pieces, Refusal, Value, holds, mapped, values_in
from ai3.torch.trace import (
    IN_PLACE_OPERATORS,
    VANISHING_TARGETS,
    Trace,
    module_operation,
    resolve,
)

_FUNCTIONS: dict[Any, Operation] = {
    resolve(name): op for op in OPERATIONS.values() for name in op.functions
}
_MODULES: dict[type[nn.Module], Callable[..., Any]] = {
    nn.MultiheadAttention: attention.multihead_attention,
    nn.TransformerEncoderLayer: attention.transformer_encoder_layer,
    nn.TransformerEncoder: attention.transformer_encoder,
    nn.TransformerDecoder: attention.transformer_decoder,
    nn.TransformerDecoderLayer: attention.transformer_decoder_layer,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm3d), lowerings.norms.module_batch_norm),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        lowerings.norms.module_instance_norm,
    ),
    **lowerings.recurrent.MODULES,
}


@dataclass(frozen=True)
class Captured:
    """A graph, and for each of its nodes that stands for a module's call, that module; `kinds` are
    what nodes are selected by that are of another kind than their operation, as "conv1d"."""

    graph: Graph
    modules: Mapping[str, nn.Module]
    kinds: Mapping[str, str]


def capture(trace: Trace, dtype: Any = None, unsupported: str = "raise") -> Captured:
    """The Graph of a traced network; the weights are copied.

    With `unsupported` "torch" what has no operation becomes a foreign node, else
    UnsupportedCallableError lists all of it.
    """
    return Capture(trace, dtype, unsupported == "torch").run()


def whole(
    module: nn.Module, inputs: int, dtype: Any, change: Callable[[nn.Module], None]
) -> Captured:
    """The Graph in which torch runs a copy of the network, which `change` may change."""
    names = tuple(f"input_{i}" if inputs > 1 else "input" for i in range(inputs))
    arguments = tuple(foreign.Input(i) for i in range(inputs))
    own = foreign.copied(module, _torch_dtype(dtype))
    change(own)
    call = foreign.Call("call_module", own, arguments, {})
    label = type(module).__name__
    node = Node("network", FOREIGN, names, {}, (), label, FOREIGN, call)
    return Captured(Graph(names, (node,), ("network",)), {}, {})


class Capture:
    """What the lowerings build the graph with."""

    def __init__(self, trace: Trace, dtype: Any, keep_foreign: bool) -> None:
        self._trace = trace
        self._dtype = _torch_dtype(dtype)
        self._keep_foreign = keep_foreign
        # bfloat16 is computed with as float32, which has all of its values.
        self._narrow = dtype is None and self._own_dtype is torch.bfloat16 and not keep_foreign
        if self._narrow:
            self._dtype = torch.float32
        self._weights: dict[tuple[int, bool], tuple[torch.Tensor, Weight]] = {}
        self._constants: dict[int, Value] = {}
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self._modules: dict[str, nn.Module] = {}
        self._kinds: dict[str, str] = {}
        self._checks: list[Expression] = []
        self._kinds_taken: dict[str, str] = {}
        self._node_name, self._module_name = "", ""
        self._module: nn.Module | None = None
        self._nested = 0
        self._lowerings = {resolve(name): lower for name, lower in lowerings.TABLE.items()}
        # What torch.export has, by the operator's name: parameters are those of the function.
        self._operators: dict[str, Any] = {}
        for name in [*lowerings.TABLE, *(n for op in OPERATIONS.values() for n in op.functions)]:
            if name.startswith(("torch.", "Tensor.", "aten.")):
                key = name.rpartition(".")[2]
                if key not in self._operators or name.startswith("aten."):
                    self._operators[key] = resolve(name)
        self._foreign: set[str] = set()

    # What the lowerings call.

    def add(
        self,
        op: str,
        inputs: Sequence[Any],
        attributes: Mapping[str, Any] | None = None,
        weights: Sequence[torch.Tensor | None] = (),
        kind: str = "",
    ) -> Value:
        """A node; an input may be a Value, a tensor, or a number. `kind` is what the user selects
        its algorithm by where that is not the operation's name."""
        if op in lowerings.images.ELEMENTWISE:
            found = lowerings.images.elementwise(
                self, inputs, lambda given: self._add(op, given, attributes, weights, kind)
            )
            if found is not None:
                return found
        return self._add(op, inputs, attributes, weights, kind)

    def _add(
        self, op: str, inputs: Sequence[Any], attributes: Any, weights: Any, kind: str
    ) -> Value:
        row = OPERATIONS.get(op)
        if row is None:
            raise Refusal(f"{op}, which is no operation of this build")
        given = {**row.attributes, **(attributes or {})}
        given.pop("inplace", None)
        for name, (value, reason) in row.fixed.items():
            if (found := given.pop(name, value)) != value:
                raise Refusal(f"{op} with {name}={found!r}: {reason}")
        if any(value is REQUIRED for value in given.values()):
            raise Refusal(f"{op} without its {', '.join(row.attributes)}")
        if holds(given, Value | torch.Tensor):
            raise Refusal(f"{op} with an attribute that is a tensor")
        if row.inputs != -1 and len(inputs) != row.inputs:
            raise Refusal(f"{op} with {len(inputs)} inputs")
        names = tuple(self.value(item).name for item in inputs)
        kept = tuple(self._weight(tensor, op in NARROW_WEIGHTS) for tensor in weights)
        name = self._unique(self._node_name)
        self._nodes.append(Node(name, op, names, given, kept, self._module_name))
        if kind:
            self._kinds[name] = kind
        if self._module is not None:
            self._modules[name] = self._module
        values = [item if isinstance(item, Value) else None for item in inputs]
        dtype = self._result_dtype(op, given, values)
        unsure: frozenset[str] = frozenset()
        if dtype is None and op in _KEEPING:
            first = op in ("index_select", "gather", "scatter")
            given_by = values[:1] if first else values
            unsure = unsure.union(*(value.unsure for value in given_by if value is not None))
        memory = values[0].memory if row.view and values[0] is not None else object()
        return Value(name, memory, dtype, unsure=unsure)

    def _result_dtype(
        self, op: str, attributes: Mapping[str, Any], inputs: Sequence[Value | None]
    ) -> torch.dtype | None:
        """What is known of the result's dtype; None for the network's floating-point type."""
        known = [value.dtype if value is not None else None for value in inputs]
        if op == "pointwise":
            specs = [_core.Spec(_dtype_name(dtype or self.dtype), (2,)) for dtype in known]
            program = {"program": attributes["program"]}
            try:
                found = getattr(torch, _core.problem(op, specs, None, program).output.dtype)
            except ValueError as error:
                if not any(value is not None and value.unsure for value in inputs):
                    raise
                raise Refusal(
                    f"{error}, if the input is real numbers; for others give swap_backend, in "
                    "sample_input_shape, an array like it"
                ) from error
            return None if found == self.dtype else found
        if op in ("add", "sub", "mul"):
            return known[0] if None not in known else None
        if op in ("argmax", "argmin", "argsort"):
            return torch.int64
        if op in ("prod", "cumsum", "cumprod"):
            return None if known[0] is None else torch.int64
        return known[0] if known and op != "div" else None

    def value(self, item: Any) -> Value:
        """A tensor or a number as a value of the graph."""
        if isinstance(item, Value):
            return item
        if isinstance(item, torch.Tensor) and item.dim() == 0 and not item.requires_grad:
            item = item.item()
        if isinstance(item, torch.Tensor):
            if id(item) not in self._constants:
                name = self._unique(f"{self._node_name}_constant")
                array, dtype = self._constant(item)
                self._nodes.append(Node(name, CONSTANT, (), {}, (array,)))
                self._constants[id(item)] = Value(name, dtype=dtype)
            return self._constants[id(item)]
        if not isinstance(item, bool | int | float | Expression):
            raise Refusal(f"{item!r} is not a tensor that the network computes")
        name = self._unique(f"{self._node_name}_scalar")
        self._nodes.append(Node(name, CONSTANT, (), {"value": item}))
        dtypes = {bool: torch.bool, int: torch.int64}
        return Value(name, dtype=dtypes.get(type(item)))

    def computed(self, value: Expression, dtype: torch.dtype | None = None) -> Value:
        """An array that depends on the inputs' shapes; without a dtype, of the network's."""
        name = self._unique(f"{self._node_name}_constant")
        if dtype is None or self.real(dtype) == self.dtype:
            self._nodes.append(Node(name, CONSTANT, (), {"value": value}))
            return Value(name)
        attributes = {"value": value, "dtype": _dtype_name(dtype)}
        self._nodes.append(Node(name, CONSTANT, (), attributes))
        return Value(name, dtype=dtype)

    def check(self, condition: Expression) -> None:
        """What the network asserts of its inputs' shapes."""
        self._checks.append(condition)

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's floating-point tensors."""
        return self._dtype or self._own_dtype

    @property
    def _own_dtype(self) -> torch.dtype:
        parameter = next(iter(self._trace.root.parameters()), None)
        return torch.get_default_dtype() if parameter is None else parameter.dtype

    def dtype_of(self, x: Value) -> torch.dtype:
        """A value's dtype, on which the graph depends from here on."""
        self._kinds_taken |= dict.fromkeys(x.unsure, "real")
        return x.dtype or self.dtype

    def real(self, dtype: torch.dtype) -> torch.dtype:
        """A floating-point dtype that the network names: its own is the model's."""
        return self.dtype if dtype == self._own_dtype else dtype

    # The interpreter.

    def run(self) -> Captured:
        placeholders = [
            node
            for node in self._trace.graph.nodes
            if node.op == "placeholder" and (node.users or not node.args)
        ]
        inputs = [
            self._input(self._unique(node.name), dtype)
            for node, dtype in zip(placeholders, self._trace.dtypes(placeholders), strict=True)
        ]
        refused: list[tuple[str, str]] = []
        outputs: list[str] = []
        self._checks += self._trace.checks(inputs)
        result = self._interpret(self._trace, inputs, refused)
        try:
            structure = self._structure(self._trace.result(result), outputs)
        except Refusal as refusal:
            refused.append(("the output", str(refusal)))
        if refused:
            raise UnsupportedCallableError(refused)
        names = tuple(value.name for value in inputs)
        graph = Graph(
            names,
            tuple(self._nodes),
            tuple(outputs),
            structure,
            tuple(self._checks),
            takes=self._kinds_taken,
            precision="bfloat16" if self._narrow else "float32",
            narrow=self._narrow,
        )
        return Captured(graph.needed(), self._modules, self._kinds)

    def _input(self, name: str, dtype: torch.dtype | None) -> Value:
        if dtype is None:
            return Value(name, unsure=frozenset({name}))
        if dtype.is_floating_point:
            self._kinds_taken[name] = KINDS["float32"]
            return Value(name)
        if _dtype_name(dtype) not in KINDS:
            raise UnsupportedCallableError([(name, f"an input of {dtype}")])
        self._kinds_taken[name] = KINDS[_dtype_name(dtype)]
        return Value(name, dtype=dtype)

    def _interpret(
        self, trace: Trace, inputs: Sequence[Any], refused: list[tuple[str, str]] | None
    ) -> Any:
        """What the graph gives for these stand-ins. Refusals are added to `refused`; where it is
        None the graph is that of one call, whose name all nodes bear, and they are raised."""
        env: dict[fx.Node, Any] = {}
        left = iter(inputs)
        outer = refused is not None
        overwritten = self._overwritten(trace)
        for node in trace.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(left) if node.users or not node.args else node.args[0]
                continue
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
            if node.op == "output":
                return args[0]
            if outer:
                self._node_name = node.name
                self._module_name, self._module = trace.origin(node)
            try:
                if (first := _first(node)) is not node and first in overwritten:
                    env[node] = env[first]
                    continue
                env[node] = self._evaluate(trace, node, args, kwargs)
                if node in overwritten and isinstance(env[node], torch.Tensor):
                    env[node] = self._own_value(trace, node, env[node])
                self._overwrite(trace, node, args, kwargs, env)
            except Refusal as refusal:
                if refused is None:
                    raise
                env[node], reason = Value(node.name), str(refusal)
                if self._keep_foreign:
                    try:
                        env[node] = self._add_foreign(trace, node, args, kwargs)
                        self._overwrite(trace, node, args, kwargs, env)
                        continue
                    except Refusal as other:
                        reason = str(other)
                refused.append((trace.place(node), reason))
        raise AssertionError("a graph has an output")

    def _overwritten(self, trace: Trace) -> set[fx.Node]:
        """The nodes of whose memory something is overwritten later."""
        found = set()
        for node in trace.graph.nodes:
            source = node.args[0] if node.args else None
            if node.op == "call_module":
                continue
            if isinstance(source, fx.Node) and self._is_in_place(trace, node, (), node.kwargs):
                while _views(source) and isinstance(source.args[0], fx.Node):
                    source = source.args[0]
                found.add(_first(source))
        return found

    def _own_value(self, trace: Trace, node: fx.Node, tensor: torch.Tensor) -> Value:
        """A tensor that depends on no input, as a value of which others can take the place."""
        if node.op == "get_attr":
            held = {id(t) for t in (*trace.root.parameters(), *trace.root.buffers())}
            if id(tensor) in held:
                raise Refusal(
                    "it overwrites a parameter or buffer, so that each call changes the next"
                )
        value = self.value(tensor.clone())
        return Value(value.name, dtype=value.dtype)

    def _evaluate(self, trace: Trace, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            return _attribute(trace.root, str(node.target))
        if node.op == "call_module":
            return self._call_module(trace, node, args, kwargs)
        target = self._target(node)
        held = (args, kwargs)
        if isinstance(target, type) and (is_dataclass(target) or hasattr(target, "_fields")):
            return target(*args, **kwargs)
        if target is operator.getitem and isinstance(args[0], tuple | list | dict):
            return args[0][args[1]]
        if target is getattr and isinstance(args[0], tuple):
            return getattr(args[0], args[1])
        if not holds(held, Value | Pieces):
            if not holds(held, Expression):
                return _call_for_real(node, args, kwargs)
            if not holds(held, torch.Tensor):
                if _is_own(target):
                    return self._inline(target, args, kwargs)
                return lowerings.shapes.expression(self, target, args, kwargs)
        if target in VANISHING_TARGETS:
            return args[0]
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._call_region(target, args)
        if isinstance(args[0] if args else None, Pieces):
            if target is not operator.getitem or not isinstance(args[1], int):
                raise Refusal("as many tensors as a shape says, other than one by one")
            return args[0].at(args[1])
        row = _FUNCTIONS.get(target)
        self._check_floats(held, row)
        if target in self._lowerings:
            for first in {"input", "self"} & kwargs.keys():
                args, kwargs = (kwargs[first], *args), {**kwargs}
                del kwargs[first]
            if args and isinstance(args[0], torch.Tensor):
                args = (self.value(args[0]), *args[1:])
            return _refused(target, self._lowerings[target], self, *args, **kwargs)
        if row is not None:
            return _refused(target, self._row_call, row, target, list(args), dict(kwargs))
        if _is_own(target):
            return self._inline(target, args, kwargs)
        kind = "method" if isinstance(target, str) else "function"
        raise Refusal(f"the {kind} {_name(target)}")

    def _call_region(self, target: Any, args: Any) -> Any:
        """A part that torch.export has wrapped: under autocast, or without gradients."""
        name = _name(target)
        at = next((i for i, arg in enumerate(args) if isinstance(arg, fx.GraphModule)), None)
        autocast = name == "wrap_with_autocast" and args[2]
        if name not in ("wrap_with_autocast", "wrap_with_set_grad_enabled") or at is None:
            raise Refusal(f"the function {name}")
        if autocast:
            raise Refusal("autocast, which computes in a lower precision")
        return self._inline(args[at].forward, args[at + 1 :], {}, args[at])

    def _target(self, node: fx.Node) -> Any:
        """What a node calls, as the tables of functions and methods have it."""
        if isinstance(node.target, torch._ops.OpOverload):
            name = node.target._schema.name.removeprefix("aten::")
            known = self._operators.get(name, self._operators.get(name.removesuffix("_")))
            return node.target if known is None else known
        target = _target(node)
        if target in self._lowerings or target in _FUNCTIONS or not _name(target).endswith("_"):
            return target
        # What works in place computes what the function does that does not.
        plain = _name(target)[:-1]
        other = f"Tensor.{plain}" if isinstance(target, str) else getattr(torch, plain, target)
        return other if other in self._lowerings or other in _FUNCTIONS else target

    def _call_module(self, trace: Trace, node: fx.Node, args: Any, kwargs: Any) -> Any:
        module = trace.module(node)
        held = (args, kwargs)
        if type(module) in VANISHING_TARGETS:
            return args[0]
        if node.target == "_guards_fn":
            return None
        if not holds(held, Value | Expression):
            return _call_for_real(node, args, kwargs, module)
        if self._nested == 0:
            self._module_name, self._module = trace.name(node), module
        op = module_operation(module)
        self._check_floats(held, op)
        if op is not None:
            return self._module_call(op, module, [*args, *kwargs.values()])
        if type(module) in _MODULES:
            return _refused(type(module), _MODULES[type(module)], self, module, *args, **kwargs)
        return self._inline(module.forward, args, kwargs, module)

    def _inline(
        self, call: Callable[..., Any], args: Any, kwargs: Any, module: nn.Module | None = None
    ) -> Any:
        """A function or module that fx left whole, traced by itself."""
        slots: list[Any] = []

        def take(item: Any) -> Any:
            slots.append(item)
            return _Slot(len(slots) - 1)

        dynamic = Value | Expression | torch.Tensor
        template = mapped((args, kwargs), dynamic, take)

        def filled(*given: Any) -> Any:
            args, kwargs = mapped(template, _Slot, lambda slot: given[slot.index])
            return call(*args, **kwargs)

        what = f"the module {type(module).__qualname__}" if module else f"{_name(call)}"
        try:
            trace = Trace.of_call(filled, len(slots), module)
        except Exception as error:
            raise Refusal(f"{what}, which fx cannot trace: {error}") from None
        self._nested += 1
        try:
            return self._interpret(trace, [slots], None)
        except Refusal as refusal:
            raise Refusal(f"{what}: {refusal}") from None
        finally:
            self._nested -= 1

    def _module_call(self, op: Operation, module: nn.Module, inputs: Sequence[Any]) -> Value:
        if isinstance(module, nn.BatchNorm2d) and (module.training or module.running_mean is None):
            raise Refusal(
                f"{type(module).__name__} that normalises by the batch's own statistics; "
                "call eval() first"
            )
        attributes = {
            name: getattr(module, name) for name in op.attributes if hasattr(module, name)
        }
        return self.add(op.name, inputs, attributes, [getattr(module, n) for n in op.weights])

    def _row_call(self, op: Operation, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function whose parameters are the row's inputs, weights and attributes, in order."""
        if op.inputs == -1:
            first = args.pop(0) if args else kwargs.pop("tensors", None)
            inputs = list(first) if isinstance(first, tuple | list) else [first]
        else:
            inputs, args = args[: op.inputs], args[op.inputs :]
            for alias in ("input", "self", "other"):
                if alias in kwargs and len(inputs) < op.inputs:
                    inputs.append(kwargs.pop(alias))
        names = [*op.weights, *op.attributes]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        given.pop("inplace", None)
        unknown = [key for key in given if key not in names]
        if len(args) > len(names) or any(given[name] is not None for name in unknown):
            raise Refusal(f"{_name(target)} with {', '.join(unknown) or 'more arguments'}")
        weights = [given.pop(name, None) for name in op.weights]
        attributes = {name: value for name, value in given.items() if name in op.attributes}
        return self.add(op.name, inputs, attributes, weights)

    def _add_foreign(self, trace: Trace, node: fx.Node, args: Any, kwargs: Any) -> Value:
        """The node as one that torch runs."""
        values: dict[str, int] = {}
        expressions: list[Expression] = []

        def slot(item: Any) -> Any:
            if isinstance(item, Expression):
                expressions.append(item)
                return foreign.Size(len(expressions) - 1)
            return foreign.Input(values.setdefault(item.name, len(values)))

        template = mapped((args, kwargs), Value | Expression, slot)
        target: Any = node.target
        if node.op == "call_module":
            target = foreign.copied(trace.module(node), self._dtype)
        args, kwargs = mapped(
            template, torch.Tensor, lambda tensor: foreign.detached(tensor, self._dtype)
        )
        in_place = self._is_in_place(trace, node, args, kwargs)
        call = foreign.Call(node.op, target, args, kwargs, in_place)
        name = self._unique(node.name)
        attributes = {"sizes": tuple(expressions)} if expressions else {}
        label = trace.name(node) if node.op == "call_module" else trace.place(node)
        self._nodes.append(Node(name, FOREIGN, tuple(values), attributes, (), label, FOREIGN, call))
        self._foreign.add(name)
        return Value(name)

    def _check_floats(self, held: Any, op: Operation | None) -> None:
        """What torch computes may be anything, and is read only by what takes nothing but real
        numbers."""
        if any(value.name in self._foreign for value in values_in(held)) and (
            op is None or not (op.weights or op.module)
        ):
            raise Refusal("it reads what torch computes")

    def _overwrite(
        self, trace: Trace, node: fx.Node, args: Any, kwargs: Any, env: dict[fx.Node, Any]
    ) -> None:
        """Where the node works in place, let who reads the old value later read the new one.

        Raises Refusal where a view of the overwritten memory is read later.
        """
        if not self._is_in_place(trace, node, args, kwargs):
            return
        old, new = args[0] if args else kwargs.get("input"), env[node]
        if not isinstance(old, Value):
            return
        if isinstance(new, Value) and new.dtype != old.dtype:
            env[node] = new = lowerings.arithmetic.converted(self, new, self.dtype_of(old))
        changed = {old: new}
        if _name(_target(node)).partition(".")[0] in _OTHER_SHAPES:
            # What shares the memory keeps its own.
            for earlier, value in env.items():
                env[earlier] = mapped(value, Value, lambda found: changed.get(found, found))
            return
        while (view := old.view) is not None and view.written is not None:
            old, new = view.base, view.written(new)
            changed[old] = new
        for earlier, value in env.items():
            if any(found in changed for found in values_in(value)):
                env[earlier] = mapped(value, Value, lambda found: changed.get(found, found))
            elif (
                earlier is not node
                and any(found.memory is old.memory for found in values_in(value))
                and any(user > node for user in earlier.users)
            ):
                raise Refusal("it overwrites a tensor of which a view is read later")

    def _is_in_place(self, trace: Trace, node: fx.Node, args: Any, kwargs: Any) -> bool:
        if node.op == "call_module":
            return bool(getattr(trace.module(node), "inplace", False))
        if kwargs.get("inplace"):
            return True
        target = _target(node)
        if isinstance(target, FunctionType):
            parameters = list(inspect.signature(target).parameters)
            return "inplace" in parameters[: len(args)] and bool(args[parameters.index("inplace")])
        name = _name(target).partition(".")[0]
        if name in ("detach_", "requires_grad_"):
            return False
        return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))

    def _structure(self, item: Any, outputs: list[str]) -> Any:
        if isinstance(item, dict):
            return {key: self._structure(part, outputs) for key, part in item.items()}
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            named = zip(item._fields, item, strict=True)
            return Record(type(item), tuple((k, self._structure(p, outputs)) for k, p in named))
        if isinstance(item, tuple | list):
            parts = [self._structure(part, outputs) for part in item]
            return parts if isinstance(item, list) else tuple(parts)
        if is_dataclass(item) and not isinstance(item, Value | type):
            names = [f.name for f in fields(item)]
            return Record(
                type(item), tuple((n, self._structure(getattr(item, n), outputs)) for n in names)
            )
        if item is None or isinstance(item, bool | int | float | str):
            return Plain(item)
        if not isinstance(item, Value | torch.Tensor):
            raise Refusal(f"an output that is {item!r}, not a tensor that the network computes")
        self._node_name = "output"
        outputs.append(self.value(item).name)
        return len(outputs) - 1

    def _weight(self, tensor: torch.Tensor | None, narrow: bool = False) -> Weight:
        """A tensor as an array or, where it may be `narrow` and is a weight of bfloat16 with more
        dimensions than one, as that."""
        if tensor is None:
            return None
        if not isinstance(tensor, torch.Tensor):
            raise Refusal("weights that the network computes")
        narrow = narrow and self._narrow and tensor.dtype is torch.bfloat16 and tensor.dim() > 1
        key = id(tensor), narrow
        if narrow and key not in self._weights:
            self._weights[key] = tensor, arrays.Bfloat16Array(_core.Tensor(tensor.detach()))
        if key not in self._weights:
            source = tensor.detach()
            if self._dtype is not None:
                source = source.to(self._dtype)
            elif tensor.dtype not in (torch.float32, torch.float64):
                raise Refusal(
                    f"weights of {tensor.dtype}; give dtype=torch.float32 to convert them"
                )
            self._weights[key] = tensor, arrays.to_numpy(source, copy=True)
        return self._weights[key][1]

    def _constant(self, tensor: torch.Tensor) -> tuple[Weight, torch.dtype | None]:
        """A tensor that is no weight, with its dtype where that is no floating-point one."""
        if tensor.dtype.is_floating_point:
            return self._weight(tensor), None
        kept = torch.int32 if tensor.dtype in (torch.int8, torch.int16) else tensor.dtype
        if kept not in (torch.int32, torch.int64, torch.uint8, torch.bool):
            raise Refusal(f"a tensor of {tensor.dtype}")
        key = id(tensor), False
        if key not in self._weights:
            self._weights[key] = tensor, arrays.to_numpy(tensor.detach().to(kept), copy=True)
        return self._weights[key][1], kept

    def _unique(self, name: str) -> str:
        name, number = name or "value", 1
        unique = name
        while unique in self._names:
            unique, number = f"{name}_{number}", number + 1
        self._names.add(unique)
        return unique


@dataclass(frozen=True)
class _Slot:
    index: int


def _refused(target: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call that refuses whatever is wrong with what the network gives it."""
    try:
        return call(*args, **kwargs)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{_name(target)}: {error}") from error


def _is_own(target: Any) -> bool:
    """Whether it is a function of the user's, or of a package other than torch."""
    return isinstance(target, FunctionType) and target.__module__.split(".")[0] not in (
        "torch",
        "math",
        "_operator",
    )


def _first(node: fx.Node) -> fx.Node:
    """The first node that reads the same attribute of the network, or the node itself."""
    if node.op != "get_attr":
        return node
    return next(n for n in node.graph.find_nodes(op="get_attr") if n.target == node.target)


_VIEWS = (
    *("chunk", "contiguous", "detach", "expand", "expand_as", "flatten", "getitem", "movedim"),
    *("moveaxis", "narrow", "permute", "reshape", "select", "slice", "split", "split_with_sizes"),
    *("squeeze", "swapaxes", "swapdims", "t", "transpose", "unbind", "unflatten", "unsqueeze"),
    *("view", "view_as"),
)


def _views(node: fx.Node) -> bool:
    """Whether a node may give a part of its first argument's memory, or the same in other shape."""
    return bool(node.args) and _name(_target(node)).partition(".")[0] in _VIEWS


def _target(node: fx.Node) -> Any:
    return f"Tensor.{node.target}" if node.op == "call_method" else node.target


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", target)).removeprefix("Tensor.")


_KEEPING = (
    *("reshape", "flatten", "permute", "slice", "expand", "concat", "stack", "take", "flip"),
    *("roll", "pad", "index_select", "gather", "scatter", "interleave", "sort", "prod", "cumsum"),
    *("cumprod", "add", "sub", "mul", "relu", "pointwise"),
)
"""Operations whose result may be of another dtype than the network's where their inputs are."""

_IN_PLACE = (
    *IN_PLACE_OPERATORS,
    *(f"__{name}__" for name in IN_PLACE_OPERATORS),
    *("setitem", "__setitem__"),
)
_OTHER_SHAPES = ("squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_")
"""What works in place on a tensor's shape, not on its elements."""
_RANDOM = ("rand", "randn", "randint", "randperm", "bernoulli", "normal", "multinomial", "dropout")


def _call_for_real(node: fx.Node, args: Any, kwargs: Any, module: nn.Module | None = None) -> Any:
    """What depends on no input is the same at every call, and computed now."""
    name = _name(_target(node)).partition(".")[0]
    if holds((args, kwargs), torch.Tensor) and (
        name in _IN_PLACE or (name.endswith("_") and name != "detach_")
    ):
        raise Refusal(f"{name}, which changes a constant in place")
    if name.removesuffix("_like") in _RANDOM:
        raise Refusal(f"{name}, which is random")
    with torch.no_grad():
        if module is not None:
            return module(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _attribute(root: nn.Module, name: str) -> Any:
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _torch_dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None:
        return None
    known = {"float32": torch.float32, "float64": torch.float64}
    name = str(dtype).rpartition(".")[2] if isinstance(dtype, torch.dtype) else None
    name = name or (dtype if isinstance(dtype, str) else np.dtype(dtype).name)
    if name not in known:
        raise ValueError(f"dtype must be float32 or float64, not {dtype}")
    return known[name]
