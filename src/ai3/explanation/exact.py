"""Values of a network's nodes: as they lie in memory, and as they would be in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ai3 import _core, arrays
from ai3.graph.graph import KINDS, Node
from ai3.validation.layouts import from_memory, to_memory

Array = Any
"""Of NumPy."""

FORMS = ("output_layout", "output_dtype")
"""The attributes that say in what form a value is written, not what it is."""


def memory_of(array: Any) -> Array:
    """The bytes of a dense array."""
    if arrays.is_torch(array) and array.element_size() == 2 and array.is_floating_point():
        array = _core.Tensor(array).bits
    return np.ascontiguousarray(arrays.to_numpy(array)).reshape(-1).view(np.uint8)


def values(memory: Array, spec: _core.Spec) -> Array:
    """The elements, floating-point ones as float64, of an array whose memory this is."""
    flat = memory.reshape(-1).view(np.uint8)
    if spec.dtype == "bfloat16":
        bits = flat.view(np.uint16).astype(np.uint32) << 16
        dense = from_memory(bits.view(np.float32), spec, _block(spec))
    else:
        dense = from_memory(flat.view(spec.dtype), spec, _block(spec))
    return dense.astype(np.float64) if KINDS[spec.dtype] == "real" else np.ascontiguousarray(dense)


def elements(array: Any) -> Array:
    """The elements, floating-point ones as float64, of a dense array of any library."""
    return values(memory_of(array), _core.specs_of([array])[0])


def _block(spec: _core.Spec) -> int:
    """Channels in a block of the blocked layout."""
    if spec.layout != "blocked":
        return 0
    return _core.Spec(spec.dtype, (1, 1, 1), "blocked").bytes // _core.Spec(spec.dtype, ()).bytes


def in_double(node: Node, inputs: Sequence[Array]) -> Array | None:
    """The node's output of these inputs in float64, dense; None where the core cannot tell."""
    if node.op == "reorder":
        return inputs[0]
    attributes = {k: v for k, v in node.attributes.items() if k not in FORMS}
    weights = _core.Weights.of(
        [
            w if w is None or KINDS.get(w.dtype.name) != "real" else w.astype(np.float64)
            for w in node.weights
        ],
        False,
    )
    for layout in ("dense", "blocked"):
        specs = [
            _core.Spec(x.dtype.name, x.shape, layout if x.ndim == 4 else "dense") for x in inputs
        ]
        try:
            problem = _core.problem(node.op, specs, weights, attributes)
        except (TypeError, ValueError):
            return None
        if not problem.refusal("direct"):
            memory = [to_memory(x, s.layout) for x, s in zip(inputs, specs, strict=True)]
            (output,), _ = _core.probe(problem, "direct", memory, [0])
            return values(output.numpy(), problem.output)
    return None


def distance(actual: Array, exact: Array | None) -> float | None:
    """The L2 norm of the difference over that of `exact`; None where the two are not comparable."""
    if exact is None or actual.shape != exact.shape or actual.dtype.kind != "f":
        return None
    norm = float(np.linalg.norm(exact))
    apart = float(np.linalg.norm((actual - exact).ravel()))
    found = apart / norm if norm else apart
    return found if np.isfinite(found) else None
