"""From a torch network to a Graph."""

import copy
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ai3 import arrays
from ai3.errors import UnsupportedCallableError, UntraceableError
from ai3.graph import Graph, Node, Weight
from ai3.ops import OPERATIONS, REQUIRED, VANISHING, Operation
from ai3.torch.conv2d import Conv2d


def _resolve(name: str) -> Any:
    """The object of a qualified name, "Tensor.relu" being the method's name as fx gives it."""
    if name.startswith("Tensor."):
        return name
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


_MODULES: dict[Any, Operation] = {
    _resolve(op.module): op for op in OPERATIONS.values() if op.module is not None
}
_FUNCTIONS: dict[Any, Operation] = {
    _resolve(name): op for op in OPERATIONS.values() for name in op.functions
}
_VANISHING = {_resolve(name) for name in VANISHING}


def module_operation(module: nn.Module) -> Operation | None:
    """The operation that a module stands for, subclasses with the same forward included."""
    kind: Any
    for kind in type(module).__mro__:
        if kind in _MODULES:
            forwards = (kind.forward, Conv2d.forward)
            return _MODULES[kind] if type(module).forward in forwards else None
    return None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_operation(m) is not None or super().is_leaf_module(m, module_qualified_name)


class Trace:
    """A network as fx traced it, with the original modules. Raises UntraceableError."""

    def __init__(self, module: nn.Module) -> None:
        # A root that is itself an operation is traced as the only child of a container.
        self._wrapped = module_operation(module) is not None or type(module) in _VANISHING
        root = nn.Sequential(module) if self._wrapped else module
        try:
            self.graph = _Tracer().trace(root)
        except Exception as error:
            raise UntraceableError(
                f"torch.fx cannot trace {type(module).__name__}: {error}\n"
                "(control flow that depends on values or shapes is the usual reason)"
            ) from error
        self.root = root
        self._modules = dict(root.named_modules(remove_duplicate=False))

    def module(self, node: fx.Node) -> nn.Module:
        return self._modules[str(node.target)]

    def name(self, node: fx.Node) -> str:
        """The module's qualified name in the user's network."""
        return "" if self._wrapped else str(node.target)

    def met(self, op: str) -> Iterator[fx.Node]:
        """The nodes that call modules of an operation, each module at its first call only."""
        seen: set[int] = set()
        for node in self.graph.nodes:
            if node.op != "call_module":
                continue
            module = self.module(node)
            found = module_operation(module)
            if found is not None and found.name == op and id(module) not in seen:
                seen.add(id(module))
                yield node

    def input_shapes(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The shape of the first input of every node, by its name, under the sample input shape.

        Nothing is computed and no buffer changes: fake tensors go through the network.
        """
        from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

        parameter = next(iter(self.root.parameters()), None)
        dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
        shapes: dict[str, tuple[int, ...]] = {}

        class Recorder(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                if n.op != "placeholder" and n.args and isinstance(n.args[0], fx.Node):
                    value = self.env[n.args[0]]
                    if isinstance(value, torch.Tensor):
                        shapes[n.name] = tuple(value.shape)
                return super().run_node(n)

        try:
            fake = FakeTensorMode()
            with FakeCopyMode(fake):
                network = copy.deepcopy(fx.GraphModule(self.root, self.graph))
            with fake, torch.no_grad():
                Recorder(network).run(torch.empty(tuple(shape), dtype=dtype))
        except Exception as error:
            raise ValueError(
                f"an input of sample_input_shape {tuple(shape)} does not go through the network: "
                f"{error}"
            ) from error
        return shapes


def capture(trace: Trace, dtype: Any = None) -> tuple[Graph, dict[str, fx.Node]]:
    """The Graph of a traced network, weights copied, and the fx node behind each of its nodes.

    Raises UnsupportedCallableError, which lists everything that has no operation.
    """
    return _Capture(trace, dtype).run()


class _Refusal(Exception):
    """One node that cannot be captured, with the reason."""


class _Capture:
    def __init__(self, trace: Trace, dtype: Any) -> None:
        self._trace = trace
        self._dtype = _numpy_dtype(dtype)
        self._values: dict[fx.Node, str] = {}
        self._constants: dict[fx.Node, torch.Tensor | None] = {}
        self._weights: dict[int, tuple[Weight, ...]] = {}
        self._nodes: list[Node] = []
        self._sources: dict[str, fx.Node] = {}

    def run(self) -> tuple[Graph, dict[str, fx.Node]]:
        inputs: list[str] = []
        outputs: tuple[str, ...] = ()
        refused: list[tuple[str, str]] = []
        for node in self._trace.graph.nodes:
            try:
                if node.op == "placeholder":
                    if node.users or not node.args:
                        inputs.append(node.name)
                        self._values[node] = node.name
                elif node.op == "output":
                    outputs = self._outputs(node.args[0])
                elif node.op == "get_attr":
                    self._constants[node] = _attribute(self._trace.root, str(node.target))
                else:
                    self._call(node)
            except _Refusal as refusal:
                refused.append((_place(node, self._trace), str(refusal)))
                self._values[node] = node.name
        if refused:
            raise UnsupportedCallableError(refused)
        return Graph(tuple(inputs), tuple(self._nodes), outputs), self._sources

    def _outputs(self, value: Any) -> tuple[str, ...]:
        values = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(self._value(item) for item in values)

    def _value(self, item: Any) -> str:
        if isinstance(item, fx.Node) and item in self._values:
            return self._values[item]
        raise _Refusal(f"{item!r} is not a tensor that the network computes")

    def _call(self, node: fx.Node) -> None:
        if node.op == "call_module":
            module = self._trace.module(node)
            if type(module) in _VANISHING:
                self._values[node] = self._value(node.args[0])
                return
            op = module_operation(module)
            if op is None:
                raise _Refusal(f"the module {type(module).__qualname__}")
            self._module_call(node, op, module)
        else:
            target = f"Tensor.{node.target}" if node.op == "call_method" else node.target
            if target in _VANISHING:
                self._values[node] = self._value(node.args[0])
                return
            op = _FUNCTIONS.get(target)
            if op is None:
                kind = "method" if node.op == "call_method" else "function"
                raise _Refusal(f"the {kind} {getattr(target, '__name__', target)}")
            self._function_call(node, op)

    def _module_call(self, node: fx.Node, op: Operation, module: nn.Module) -> None:
        if isinstance(module, nn.BatchNorm2d) and (module.training or module.running_mean is None):
            raise _Refusal(
                "BatchNorm2d that normalises by the batch's own statistics; call eval() first"
            )
        if id(module) not in self._weights:
            self._weights[id(module)] = tuple(
                self._weight(getattr(module, name)) for name in op.weights
            )
        attributes = {
            name: getattr(module, name) for name in op.attributes if hasattr(module, name)
        }
        inputs = [*node.args, *node.kwargs.values()]
        self._add(node, op, inputs, attributes, self._weights[id(module)], self._trace.name(node))

    def _function_call(self, node: fx.Node, op: Operation) -> None:
        names = [*op.weights, *op.attributes]
        args = list(node.args)
        if op.inputs == -1:
            first = args.pop(0) if args else node.kwargs.get("tensors")
            inputs = list(first) if isinstance(first, (tuple, list)) else [first]
        else:
            inputs = args[: op.inputs]
            del args[: op.inputs]
            for alias in ("input", "other"):
                if alias in node.kwargs and len(inputs) < op.inputs:
                    inputs.append(node.kwargs[alias])
        given = {**dict(zip(names, args, strict=False)), **node.kwargs}
        weights = tuple(self._weight_argument(given.get(name)) for name in op.weights)
        attributes = {name: given.get(name, default) for name, default in op.attributes.items()}
        if any(value is REQUIRED for value in attributes.values()):
            raise _Refusal(f"the function {node.target} without its {', '.join(names)}")
        name = getattr(node.target, "__name__", str(node.target))
        if name.endswith("_") or name == "iadd":
            attributes["inplace"] = True
        self._add(node, op, inputs, attributes, weights, "")

    def _add(
        self,
        node: fx.Node,
        op: Operation,
        inputs: Sequence[Any],
        attributes: dict[str, Any],
        weights: tuple[Weight, ...],
        module: str,
    ) -> None:
        for name, (value, reason) in op.fixed.items():
            if attributes.pop(name, value) != value:
                raise _Refusal(f"{op.name} with {name}={node.kwargs.get(name, True)!r}: {reason}")
        if op.inputs != -1 and len(inputs) != op.inputs:
            raise _Refusal(f"{op.name} with {len(inputs)} inputs")
        in_place = attributes.pop("inplace", False)
        for name, value in attributes.items():
            if isinstance(value, fx.Node) or (
                isinstance(value, (tuple, list)) and any(isinstance(v, fx.Node) for v in value)
            ):
                raise _Refusal(f"{op.name} with a computed {name}")
        values = tuple(self._value(item) for item in inputs)
        self._nodes.append(Node(node.name, op.name, values, attributes, weights, module))
        self._sources[node.name] = node
        self._values[node] = node.name
        if in_place:
            # Who reads the overwritten value later reads the new one.
            old = values[0]
            for key in [key for key, value in self._values.items() if value == old]:
                self._values[key] = node.name

    def _weight_argument(self, item: Any) -> Weight:
        if item is None:
            return None
        if isinstance(item, fx.Node) and item in self._constants:
            return self._weight(self._constants[item])
        raise _Refusal("weights that the network computes")

    def _weight(self, tensor: torch.Tensor | None) -> Weight:
        if tensor is None:
            return None
        if tensor.dtype not in (torch.float32, torch.float64) and self._dtype is None:
            raise _Refusal(f"weights of {tensor.dtype}; give dtype=torch.float32 to convert them")
        if self._dtype is not None:
            tensor = tensor.to(self._dtype)
        return arrays.to_numpy(tensor, copy=True)


def _attribute(root: nn.Module, name: str) -> torch.Tensor | None:
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _numpy_dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None:
        return None
    known = {"float32": torch.float32, "float64": torch.float64}
    name = str(dtype).rpartition(".")[2] if isinstance(dtype, torch.dtype) else None
    name = name or (dtype if isinstance(dtype, str) else np.dtype(dtype).name)
    if name not in known:
        raise ValueError(f"dtype must be float32 or float64, not {dtype}")
    return known[name]


def _place(node: fx.Node, trace: Trace) -> str:
    """Where a node comes from, as the user knows it."""
    if node.op == "call_module":
        return trace.name(node) or type(trace.module(node)).__name__
    stack = (node.stack_trace or "").strip().splitlines()
    frames = [line.strip() for line in stack if line.lstrip().startswith("File ")]
    inside = [f for f in frames if "torch/nn/modules/module.py" not in f]
    return f"{node.name} ({(inside or frames)[-1]})" if frames else node.name
