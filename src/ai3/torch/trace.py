"""A torch network as torch.fx sees it, its own modules and source lines at hand."""

import copy
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ai3.errors import UntraceableError
from ai3.graph import Expression
from ai3.ops import OPERATIONS, VANISHING, Operation
from ai3.torch.sample import samples_of
from ai3.torch.stand_ins import Value


def resolve(name: str) -> Any:
    """The object of a qualified name, "Tensor.relu" being the method's name as fx gives it.
    The name itself where nobody has imported its module, or it has none such."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, name)


MODULES: dict[Any, Operation] = {
    resolve(op.module): op for op in OPERATIONS.values() if op.module is not None
}
VANISHING_TARGETS = {resolve(name) for name in VANISHING}


def module_operation(module: nn.Module) -> Operation | None:
    """The operation that a module stands for, subclasses with the same forward included; None where
    it has what the operation does not."""
    kind: Any
    for kind in type(module).__mro__:
        if kind in MODULES:
            op = MODULES[kind]
            fits = all(getattr(module, name) == value for name, (value, _) in op.fixed.items())
            return op if fits and type(module).forward is kind.forward else None
    return None


_TORCH = str(Path(torch.__file__).parent)


class _Proxy(fx.Proxy):
    """Also records what fx would do out of place, or not at all."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def _in_place(name: str) -> Callable[[_Proxy, Any], fx.Proxy]:
    def record(self: _Proxy, other: Any) -> fx.Proxy:
        target = getattr(operator, name)
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return record


IN_PLACE_OPERATORS = (
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul"),
    *("iand", "ior", "ixor", "ilshift", "irshift"),
)
for _name in IN_PLACE_OPERATORS:
    setattr(_Proxy, f"__{_name}__", _in_place(_name))


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    # Else what a forward does to a buffer would happen while it is traced.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_operation(m) is not None or super().is_leaf_module(m, module_qualified_name)


class Trace:
    """A network as fx traced it, with the original modules. Raises UntraceableError."""

    def __init__(self, module: nn.Module, sample: Any = None) -> None:
        self._samples = [] if sample is None else samples_of(sample)
        # A root that is itself one of torch's modules is traced as the only child of a container.
        self._wrapped = _Tracer().is_leaf_module(module, "") or type(module) in VANISHING_TARGETS
        root = nn.Sequential(module) if self._wrapped else module
        random = torch.get_rng_state()
        try:
            self.root, self.graph = _trace(root)
            if not torch.equal(random, torch.get_rng_state()):
                torch.set_rng_state(random)
                raise ValueError("it draws random numbers that do not depend on its inputs")
        except Exception as error:
            raise UntraceableError(
                f"torch.fx cannot trace {type(module).__name__}: {error}\n"
                "(control flow that depends on values or shapes is the usual reason: give "
                "swap_backend the shape of an input, as in sample_input_shape=(1, 3, 224, 224), "
                "and torch.export is tried)"
            ) from error
        self._lined: dict[str, fx.Node] | None = None
        self._modules = dict(root.named_modules(remove_duplicate=False))

    @classmethod
    def of_call(
        cls, call: Callable[..., Any], inputs: int, module: nn.Module | None = None
    ) -> "Trace":
        """A function of `inputs` arguments, which the graph takes as one sequence; `module` holds
        the parameters that it uses. Raises whatever tracing raises."""

        class Root(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, items: Any) -> Any:
                return call(*(items[i] for i in range(inputs)))

        trace = cls.__new__(cls)
        trace.root, trace._wrapped, trace._lined, trace._samples = Root(), False, None, []
        trace.graph = _Tracer().trace(trace.root)
        trace._modules = dict(trace.root.named_modules(remove_duplicate=False))
        return trace

    def module(self, node: fx.Node) -> nn.Module:
        return self._modules[str(node.target)]

    def name(self, node: fx.Node) -> str:
        """The module's qualified name in the user's network."""
        return "" if self._wrapped else str(node.target)

    def origin(self, node: fx.Node) -> tuple[str, nn.Module | None]:
        """The module, and its name, that a call of a function stands for."""
        return "", None

    def dtypes(self, placeholders: Sequence[fx.Node]) -> list[torch.dtype | None]:
        """Of each input, None where it may be any."""
        if len(self._samples) != len(placeholders):
            return [None] * len(placeholders)
        return [sample.dtype for sample in self._samples]

    def result(self, values: Any) -> Any:
        """What the network gives, of what its graph does."""
        return values

    def checks(self, inputs: Sequence[Value]) -> list[Expression]:
        """What must hold for the inputs' shapes."""
        return []

    def place(self, node: fx.Node) -> str:
        """Where a node comes from, as the user knows it: the module, the file and the line."""
        if self._lined is None:
            # Too slow to be done where nobody asks.
            _, graph = _trace(self.root, lines=True)
            self._lined = {lined.name: lined for lined in graph.nodes}
        line = self.line(self._lined[node.name])
        if node.op == "call_module":
            module = self.name(node) or type(self.module(node)).__name__
        else:
            module = _module_of(node) or node.name
        return f"{module} ({line})" if line else module

    @staticmethod
    def line(node: fx.Node) -> str:
        """file:line of the innermost frame that is not torch's own."""
        for line in reversed((node.stack_trace or "").splitlines()):
            if line.lstrip().startswith("File "):
                _, path, rest = line.split('"', 2)
                if not path.startswith(_TORCH):
                    return f"{path}:{rest.removeprefix(', line ').partition(',')[0]}"
        return ""


def _trace(root: nn.Module, lines: bool = False) -> tuple[nn.Module, fx.Graph]:
    """A copy with the same tensors, so that what a forward assigns to its modules stays there, and
    its graph."""
    tensors = [*root.parameters(), *root.buffers()]
    own = copy.deepcopy(root, {id(tensor): tensor for tensor in tensors})
    tracer = _Tracer()
    tracer.record_stack_traces = lines
    graph = _without_options(
        tracer.trace(own, concrete_args=(options := _options(own)) or None), options
    )
    for name, module in own.named_modules():
        for key in [*module._buffers, *module._parameters]:
            if isinstance(getattr(module, key), fx.Proxy):
                place = f"{name}.{key}" if name else key
                raise ValueError(f"it assigns {place}, so that each call changes the next")
    return own, graph


def _options(module: nn.Module) -> dict[str, Any]:
    """The arguments of forward, but the first, that have plain defaults: they are no inputs."""
    others = list(inspect.signature(module.forward).parameters.values())[1:]
    return {
        p.name: p.default
        for p in others
        if p.default is None or isinstance(p.default, bool | int | float | str)
    }


def _without_options(graph: fx.Graph, options: Mapping[str, Any]) -> fx.Graph:
    """Without the placeholders of options, and fx's checks that nobody gives others."""

    def erase(node: fx.Node) -> None:
        for user in list(node.users):
            erase(user)
        graph.erase_node(node)

    for node in list(graph.nodes):
        if node.op == "placeholder" and str(node.target).rpartition("_")[0] in options:
            erase(node)
    return graph


def _module_of(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0]) for entry in stack.values()]
    return names[-1] if names else ""
