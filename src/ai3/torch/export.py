"""A torch network as torch.export sees it: for those that torch.fx cannot trace."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain, combinations
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from ai3.errors import UntraceableError
from ai3.graph.expression import Expression, shape_of
from ai3.torch.limit import TimeUp, limited
from ai3.torch.sample import Sample, samples_of
from ai3.torch.stand_ins import Value
from ai3.torch.trace import Trace, module_operation

MANY = 1 << 62
"""Bounds above this are none."""

FREE = {"all sizes": 12.0, "the batch's size": 8.0, "no size": None}
"""Which sizes of the inputs may change from call to call (the fewer, the more networks export), and
the seconds that finding it out may take, or four times as many for a network above 100 MB."""


class ExportTrace(Trace):
    """A network exported for inputs like a sample, or several, of whose shapes `free` may be others
    where the network takes them.

    Raises UntraceableError.
    """

    def __init__(self, module: nn.Module, sample: Any, free: str = "all sizes") -> None:
        self._exported, self._original = _export(module, samples_of(sample), free), module
        self.root = self._exported.module(check_guards=False)
        self.graph = self.root.graph
        self._modules = {}
        self._wrapped = False

    def name(self, node: fx.Node) -> str:
        return self.origin(node)[0]

    def dtypes(self, placeholders: Sequence[fx.Node]) -> list[torch.dtype | None]:
        return [node.meta["val"].dtype for node in placeholders]

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


def _export(
    module: nn.Module, samples: Sequence[Sample], free: str
) -> torch.export.ExportedProgram:
    # An extent of 1 is taken for a constant.
    many = [
        replace(sample, shape=(max(2, sample.shape[0]), *sample.shape[1:]))
        if sample.shape
        else sample
        for sample in samples
    ]
    weights = sum(parameter.nbytes for parameter in module.parameters())
    import_module("torch._dynamo")  # takes seconds the first time, which are not the network's
    limit = FREE[free]
    if limit is not None and weights > 100e6:
        limit *= 4
    said = ""
    for tried in [samples] if free == "no size" else [many, samples][: 1 + (many != samples)]:
        try:
            with limited(f"tracing {type(module).__name__} by torch.export, {free} free", limit):
                return _exported(module, tried, free)
        except TimeUp:
            said = f"nothing for {limit:.0f} s"
            break
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
    raise UntraceableError(
        f"neither torch.fx nor torch.export can trace {type(module).__name__}; torch.export, with "
        f"{free} free, says: {said}"
    )


def _exported(
    module: nn.Module, samples: Sequence[Sample], free: str
) -> torch.export.ExportedProgram:
    auto = torch.export.Dim.AUTO
    dims = {"all sizes": None, "the batch's size": 1, "no size": 0}[free]
    dynamic = tuple(
        {dim: auto for dim, extent in enumerate(sample.shape[:dims]) if extent != 1}
        for sample in samples
    )
    error: Exception | None = None
    for dtypes in _dtypes(module, samples):
        inputs = tuple(
            torch.zeros(sample.shape, dtype=dtype)
            for sample, dtype in zip(samples, dtypes, strict=True)
        )
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what becomes a constant, which is wanted
                if error is not None and len(samples) > 1:
                    _try(module, inputs)
                return torch.export.export(module, inputs, dynamic_shapes=dynamic)
        except Exception as raised:
            error = error or raised
            if not _wants_integers(error):
                break
    assert error is not None
    raise error


def _dtypes(module: nn.Module, samples: Sequence[Sample]) -> Iterator[tuple[torch.dtype, ...]]:
    """What the inputs may be: what was said or else the network's own dtype; for networks that look
    numbers up, int64 too, all that nothing was said of, then the fewest."""
    parameter = next(module.parameters(), None)
    own = torch.get_default_dtype() if parameter is None else parameter.dtype
    said = [
        own if sample.dtype is not None and sample.dtype.is_floating_point else sample.dtype
        for sample in samples
    ]
    open_ = [i for i, dtype in enumerate(said) if dtype is None]
    mixed = chain.from_iterable(combinations(open_, n) for n in range(1, min(len(open_), 4)))
    for integers in dict.fromkeys(((), tuple(open_), *mixed)):
        yield tuple(
            (torch.int64 if i in integers else own) if dtype is None else dtype
            for i, dtype in enumerate(said)
        )


def _try(module: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
    """Raises where the network does not take inputs of these dtypes, which torch.export does not
    always."""
    copy.deepcopy(module)(*inputs)


def _wants_integers(error: Exception) -> bool:
    text = str(error)
    looked_up = any(word in text for word in ("indices", "index tensor", "for index"))
    of_bits = "bitwise" in text or "integer and Boolean" in text
    return of_bits or (looked_up and ("Long" in text or "int" in text))
