"""A torch network as torch.export sees it: for those that torch.fx cannot trace."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ai3.errors import UntraceableError
from ai3.graph.expression import Expression, shape_of
from ai3.torch.stand_ins import Value
from ai3.torch.trace import Trace, module_operation

MANY = 1 << 62
"""Bounds above this are none."""


class ExportTrace(Trace):
    """A network exported for inputs of a sample's rank, of any extents that it then takes.

    Raises UntraceableError.
    """

    def __init__(self, module: nn.Module, shape: Sequence[int]) -> None:
        parameter = next(iter(module.parameters()), None)
        dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
        auto = torch.export.Dim.AUTO
        # An extent of 1 is taken for a constant.
        shapes = dict.fromkeys([(max(2, shape[0]), *shape[1:]), tuple(shape)])
        errors = []
        for sample in shapes:
            dynamic = (dict.fromkeys(range(len(sample)), auto),)
            try:
                with torch.no_grad():
                    exported = torch.export.export(
                        module, (torch.zeros(sample, dtype=dtype),), dynamic_shapes=dynamic
                    )
                break
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
        else:
            raise UntraceableError(
                f"neither torch.fx nor torch.export can trace {type(module).__name__}; "
                f"torch.export says: {errors[-1]}"
            )
        self._exported, self._original = exported, module
        self.root = exported.module(check_guards=False)
        self.graph = self.root.graph
        self._modules = {}
        self._wrapped = False

    def name(self, node: fx.Node) -> str:
        return self.origin(node)[0]

    def origin(self, node: fx.Node) -> tuple[str, nn.Module | None]:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        name = stack[-1][0] if stack and isinstance(stack[-1], tuple) else ""
        try:
            module = self._original.get_submodule(name)
        except AttributeError:
            return "", None
        return (name, module) if module_operation(module) is not None else ("", None)

    def place(self, node: fx.Node) -> str:
        line = self.line(node)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        name = stack[-1][0] if stack and isinstance(stack[-1], tuple) else ""
        return f"{name or node.name} ({line})" if line else name or node.name

    def result(self, values: Any) -> Any:
        return pytree.tree_unflatten(list(values), self._exported.call_spec.out_spec)

    def checks(self, inputs: Sequence[Value]) -> list[Expression]:
        """What torch.export found that the inputs' extents must fulfil."""
        known: dict[str, Expression] = {}
        found = []
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        for node, value in zip(placeholders, inputs, strict=True):
            for dim, extent in enumerate(node.meta["val"].shape):
                size = shape_of(value.name)[dim]
                symbol = str(extent)
                if isinstance(extent, int):
                    found.append(Expression("eq", (size, extent)))
                elif symbol in known:
                    found.append(Expression("eq", (size, known[symbol])))
                else:
                    known[symbol] = size
        for symbol, bounds in self._exported.range_constraints.items():
            if str(symbol) not in known:
                continue
            size = known[str(symbol)]
            # 2 is what it takes for every extent that is not a constant.
            lower, upper = str(bounds.lower), str(bounds.upper)
            if lower.isdigit() and int(lower) > 2:
                found.append(Expression("ge", (size, int(lower))))
            if upper.isdigit() and int(upper) < MANY:
                found.append(Expression("le", (size, int(upper))))
        return found
