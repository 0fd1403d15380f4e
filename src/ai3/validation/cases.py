"""What each operation is tried with: named cases, and cases drawn at random.

A row of `SUITES` for an operation: `draw` makes a case of what it draws, valid or not, `named` are
cases at the edges, `reduction` is how many terms one element of the result adds up, 0 where
elements are chosen and not changed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ai3.validation.case import Case, Draw, Shape
from ai3.validation.convolutions import (
    CONVOLUTIONS,
    MORE_CONVOLUTIONS,
    TRANSPOSED,
    draw_convolution,
    draw_transposed,
    gradients_of,
    pair,
)


@dataclass(frozen=True)
class Suite:
    """See above."""

    draw: Callable[[Draw, str], Case]
    named: Mapping[str, Case] = field(default_factory=dict)
    reduction: Callable[[Case], int] = lambda case: 1


def draw_expand_depthwise(draw: Draw, op: str) -> Case:
    small = draw.integer
    channels, kernel = small(1, 70), (small(1, 5), small(1, 5))
    shape = (small(1, 2), small(1, 20), small(5, 30), small(5, 30))
    attributes = {
        "stride": (small(1, 2), small(1, 2)),
        "padding": (small(0, 2), small(0, 2)),
        "expand_activation": draw.choice(["none", "relu"]),
        "activation": draw.choice(["none", "relu", "hardswish"]),
    }
    bias = (channels,) if draw.choice([False, True]) else None
    weights = ((channels, shape[1], 1, 1), bias, (channels, 1, *kernel), bias)
    return Case(op, (shape,), weights, attributes)


def draw_linear(draw: Draw, op: str) -> Case:
    rows = tuple(draw.integer(1, 9) for _ in range(draw.integer(0, 3)))
    ic, oc = draw.integer(1, 70), draw.integer(1, 70)
    bias = (oc,) if draw.choice([False, True]) else None
    return Case(op, ((*rows, ic),), ((oc, ic), bias))


def _linear(input: Shape, oc: int, bias: bool = True) -> Case:
    return Case("linear", (input,), ((oc, input[-1]), (oc,) if bias else None))


LINEAR = {
    "one": _linear((1, 1), 1),
    "rows": _linear((7, 33), 65),
    "row": _linear((1, 300), 70),
    "vector": _linear((17,), 9),
    "no_bias": _linear((3, 8), 8, False),
    "three_dimensions": _linear((2, 5, 19), 31),
    "long": _linear((2, 4000), 3),
    "square": _linear((130, 130), 130),
    "many_rows": _linear((300, 5), 4),
    "empty_batch": _linear((0, 8), 4),
}


def draw_matmul(draw: Draw, op: str) -> Case:
    batch = tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 2)))
    m, k, n = (draw.integer(1, 40) for _ in range(3))
    return Case(op, ((*batch, m, k), (*batch, k, n)))


def draw_attention(draw: Draw, op: str) -> Case:
    batch = tuple(draw.integer(1, 3) for _ in range(draw.integer(0, 2)))
    queries, keys, e, ev = (draw.integer(1, 20) for _ in range(4))
    inputs: tuple[Shape, ...] = ((*batch, queries, e), (*batch, keys, e), (*batch, keys, ev))
    kind = draw.choice(["plain", "causal", "masked"])
    if kind == "masked":
        inputs = (*inputs, (queries, keys))
    return Case(op, inputs, (), {"is_causal": kind == "causal"})


GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


def draw_recurrence(draw: Draw, op: str) -> Case:
    cell = draw.choice(["tanh", "relu", "gru", "lstm"])
    steps, batch, hidden = draw.integer(1, 4), draw.integer(1, 4), draw.integer(1, 33)
    gates = GATES[cell] * hidden
    projected = draw.integer(1, hidden) if cell == "lstm" and draw.choice([False, True]) else None
    state = projected or hidden
    first = ((batch, state), (batch, hidden))[: draw.integer(0, 1 + (cell == "lstm"))]
    bias = (gates,) if draw.choice([False, True]) else None
    weights = ((gates, state), bias, (projected, hidden) if projected else None)
    attributes = {"cell": cell, "reverse": draw.choice([False, True])}
    return Case(op, ((steps, batch, gates), *first), weights, attributes)


# Images


def draw_pooling(draw: Draw, op: str) -> Case:
    kernel = (draw.integer(1, 5), draw.integer(1, 5))
    stride = (draw.integer(1, 4), draw.integer(1, 4))
    padding = tuple(draw.integer(0, k // 2) for k in kernel)
    dilation = tuple(draw.integer(1, 2) for _ in kernel) if op == "maxpool2d" else (1, 1)
    size = (d * (k - 1) + 1 + draw.integer(0, 20) for d, k in zip(dilation, kernel, strict=True))
    attributes: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
    attributes["ceil_mode"] = draw.choice([False, True])
    if op == "maxpool2d":
        attributes["dilation"] = dilation
    else:
        attributes["count_include_pad"] = draw.choice([True, False])
    return Case(op, (_image(draw, size),), (), attributes)


def _image(draw: Draw, size: "Iterator[int] | None" = None) -> Shape:
    batch = (draw.integer(1, 3),) if draw.choice([True, True, False]) else ()
    plane = size or (draw.integer(1, 25) for _ in range(2))
    return (*batch, draw.integer(1, 40), *plane)


def _pooling(op: str) -> dict[str, Case]:
    def of(shape: Shape, **attributes: Any) -> Case:
        return Case(op, (shape,), (), attributes)

    return {
        "2x2": of((2, 5, 8, 9), kernel_size=2),
        "3x3_stride_2": of((1, 17, 15, 14), kernel_size=3, stride=2, padding=1),
        "one_pixel": of((1, 1, 1, 1), kernel_size=1),
        "kernel_is_image": of((1, 3, 6, 5), kernel_size=(6, 5)),
        "unbatched": of((4, 9, 11), kernel_size=3, stride=1),
        "wide": of((1, 2, 3, 150), kernel_size=(2, 3), stride=(1, 2)),
        "ceil": of((1, 3, 10, 11), kernel_size=3, stride=2, ceil_mode=True),
        "gaps": of((2, 3, 11, 12), kernel_size=2, stride=5),
        "empty_batch": of((0, 3, 8, 8), kernel_size=2),
    }


def draw_adaptive(draw: Draw, op: str) -> Case:
    return Case(op, (_image(draw),), (), {"output_size": (draw.integer(1, 9), draw.integer(1, 9))})


def draw_interpolate(draw: Draw, op: str) -> Case:
    shape = (draw.integer(1, 2), draw.integer(1, 5), draw.integer(1, 12), draw.integer(1, 12))
    mode = draw.choice(["nearest", "nearest-exact", "bilinear", "bicubic"])
    attributes: dict[str, Any] = {"mode": mode}
    attributes["size"] = (draw.integer(1, 20), draw.integer(1, 20))
    if mode.startswith("bi"):
        attributes["align_corners"] = draw.choice([False, True])
    return Case(op, (shape,), (), attributes)


def draw_reorder(draw: Draw, op: str) -> Case:
    layout = draw.choice(["channels_last", "blocked", "dense"])
    return Case(op, (_image(draw),), (), {"layout": layout})


# Elements, and what lies along dimensions


def draw_shape(draw: Draw, least: int = 0, most: int = 4) -> Shape:
    return tuple(draw.integer(1, 12) for _ in range(draw.integer(least, most)))


def _dimension(draw: Draw, shape: Shape) -> int:
    return draw.integer(-len(shape), len(shape) - 1)


ACTIVATIONS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid")},
    "tanh": {},
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 0.7},
    "gelu": {"approximate": "tanh"},
}


def draw_activation(draw: Draw, op: str) -> Case:
    return Case(op, (draw_shape(draw),), (), draw.choice([{}, ACTIVATIONS[op]]))


def _of_shapes(op: str, attributes: Mapping[str, Any]) -> dict[str, Case]:
    shapes = {
        "number": (),
        "one": (1,),
        "vector": (257,),
        "image": (2, 19, 7, 9),
        "large": (3, 5, 700),
        "unbatched": (37, 5, 3),
        "empty_batch": (0, 3, 2, 2),
    }
    return {name: Case(op, (shape,), (), attributes) for name, shape in shapes.items()}


def draw_arithmetic(draw: Draw, op: str) -> Case:
    shape = draw_shape(draw)
    other = tuple(draw.choice([extent, extent, 1]) for extent in shape)
    other = other[draw.integer(0, len(other)) :] if draw.choice([False, True]) else other
    inputs = (shape, other) if draw.choice([True, False]) else (other, shape)
    alpha = {"alpha": draw.choice([2.0, -0.5])} if op in ("add", "sub") else {}
    return Case(op, inputs, (), draw.choice([{}, alpha]))


def draw_pointwise(draw: Draw, op: str) -> Case:
    program, count = draw.choice(
        [
            ("relu(x0)", 1),
            ("mul(x0, x1); add(t0, 0.5)", 2),
            ("gt(x0, x1); tanh(x0); where(t0, t1, x1)", 2),
            ("tanh(x0); maximum(x1, x2); sub(t0, t1)", 3),
        ]
    )
    shape = draw_shape(draw)
    return Case(op, (shape,) * count, (), {"program": program})


def draw_along(draw: Draw, op: str) -> Case:
    """One dimension, or for reductions several or all."""
    shape = draw_shape(draw, 1)
    dim: Any = _dimension(draw, shape)
    attributes: dict[str, Any] = {"dim": dim}
    if op in ("mean", "sum", "amax"):
        several = tuple(i for i in range(len(shape)) if draw.choice([True, False]))
        attributes["dim"] = draw.choice([dim, several or None, None])
    elif op in ("argmax", "argmin", "prod"):
        attributes["dim"] = draw.choice([dim, None])
    if op in ("mean", "sum", "amax", "argmax", "argmin", "prod"):
        attributes["keepdim"] = draw.choice([False, True])
    if op in ("sort", "argsort"):
        attributes["descending"] = draw.choice([False, True])
    return Case(op, (shape,), (), attributes)


def _along(op: str) -> dict[str, Case]:
    shapes = {
        "one": ((1,), 0),
        "rows": ((7, 33), 1),
        "columns": ((33, 7), 0),
        "image": ((2, 19, 7, 9), 1),
        "long": ((2, 3000), -1),
        "empty_batch": ((0, 5), 1),
    }
    return {name: Case(op, (shape,), (), {"dim": dim}) for name, (shape, dim) in shapes.items()}


def draw_layer_norm(draw: Draw, op: str) -> Case:
    shape = draw_shape(draw, 1)
    held = shape[draw.integer(0, len(shape) - 1) :]
    weights = draw.choice([(None, None), (held, None), (held, held)])
    return Case(op, (shape,), weights, {"normalized_shape": held, "eps": 1e-3})


def draw_group_norm(draw: Draw, op: str) -> Case:
    groups = draw.integer(1, 4)
    channels = groups * draw.integer(1, 8)
    shape = (draw.integer(1, 3), channels, *draw_shape(draw, 0, 2))
    weights = draw.choice([(None, None), ((channels,), (channels,))])
    return Case(op, (shape,), weights, {"num_groups": groups, "eps": 1e-3})


def draw_batch_norm(draw: Draw, op: str) -> Case:
    if op == "batchnorm2d":
        shape = (draw.integer(1, 3), draw.integer(1, 40), *(draw.integer(1, 9) for _ in range(2)))
        channels = shape[1]
    else:
        shape = draw_shape(draw, 2)
        channels = shape[1]
    held = draw.choice([None, (channels,)])
    return Case(op, (shape,), (held, held, (channels,), (channels,)))


def draw_local_response_norm(draw: Draw, op: str) -> Case:
    shape = (draw.integer(1, 3), draw.integer(1, 20), *draw_shape(draw, 1, 2))
    return Case(op, (shape,), (), {"size": draw.integer(1, 7), "alpha": 0.5, "k": 1.5})


# Elements that move


def draw_flatten(draw: Draw, op: str) -> Case:
    shape = draw_shape(draw, 1)
    start = draw.integer(0, len(shape) - 1)
    end = draw.integer(start, len(shape) - 1)
    return Case(op, (shape,), (), {"start_dim": start, "end_dim": end})


def draw_joined(draw: Draw, op: str) -> Case:
    """concat, stack, interleave"""
    shape, count = draw_shape(draw, 1), draw.integer(1, 4)
    dim = draw.integer(0, len(shape) - 1)
    inputs = [shape] * count
    if op == "concat":
        inputs = [(*shape[:dim], draw.integer(1, 9), *shape[dim + 1 :]) for _ in inputs]
    return Case(op, tuple(inputs), (), {"dim": dim})


def draw_moved(draw: Draw, op: str) -> Case:
    """permute, reshape, expand, roll, slice, flip, pad, take"""
    shape = draw_shape(draw, 1)
    dim = draw.integer(0, len(shape) - 1)
    extent = shape[dim]
    attributes: dict[str, Any]
    if op == "permute":
        left = list(range(len(shape)))
        attributes = {"dims": tuple(left.pop(draw.integer(0, len(left) - 1)) for _ in shape)}
    elif op == "reshape":
        attributes = {"shape": draw.choice([(-1,), (1, *shape), shape[::-1]])}
    elif op == "expand":
        grown = draw.integer(1, 5)
        shape = (*shape[:dim], 1, *shape[dim + 1 :])
        attributes = {"shape": (draw.integer(1, 3), *shape[:dim], grown, *shape[dim + 1 :])}
    elif op == "roll":
        attributes = {"shifts": (draw.integer(-9, 9),), "dims": (dim,)}
    elif op == "slice":
        attributes = {"dim": dim, "start": draw.integer(0, extent - 1), "step": draw.integer(1, 3)}
    elif op == "flip":
        attributes = {"dims": (dim,)}
    elif op == "pad":
        attributes = {"pad": (draw.integer(0, 3), draw.integer(0, 3)), "value": 0.5}
    else:
        count = draw.integer(1, 5)
        indices = tuple(draw.integer(-extent, extent - 1) for _ in range(count))
        attributes = {"dim": dim, "indices": indices}
    return Case(op, (shape,), (), attributes)


def draw_indexed(draw: Draw, op: str) -> Case:
    """index_select, gather, scatter: the second input is integers."""
    shape = draw_shape(draw, 1)
    dim = draw.integer(0, len(shape) - 1)
    attributes: dict[str, Any] = {"dim": dim}
    if op == "index_select":
        return Case(op, (shape, draw_shape(draw, 1, 2)), (), attributes)
    index = (*shape[:dim], draw.integer(1, 9), *shape[dim + 1 :])
    if op == "gather":
        return Case(op, (shape, index), (), attributes)
    attributes["reduce"] = draw.choice(["set", "sum", "amax"])
    return Case(op, (shape, index, index), (), attributes)


INDEXED = ("index_select", "gather", "scatter")
"""The operations whose second input is indices of the first along `dim`."""


def _taps(case: Case) -> int:
    """The terms of a convolution's element, its bias one of them."""
    weight = case.weights[0] or ()
    return prod(weight[1:]) + 1


def _of_gradient(case: Case) -> int:
    """Padding shows an image's element up to once for each of the kernel's."""
    if case.weights and (weight := case.weights[0]):
        return 4 * weight[0] * prod(weight[2:])
    return max(1, prod(case.inputs[-1]) // case.inputs[-1][-3])


def _of_transposed(case: Case) -> int:
    weight = case.weights[0] or (1, 1)
    return weight[0] * prod(weight[2:]) + 1


def _of_input(case: Case) -> int:
    return max(1, prod(case.inputs[0]))


_GRADIENTS = {
    op: {
        name: next(c for c in gradients_of(case) if c.op == op)
        for name, case in (CONVOLUTIONS | MORE_CONVOLUTIONS).items()
    }
    for op in ("conv2d_grad_input", "conv2d_grad_weight", "conv2d_grad_bias")
}

_EXACT = 0

SUITES: dict[str, Suite] = {
    "conv2d": Suite(draw_convolution, CONVOLUTIONS, _taps),
    **{op: Suite(draw_convolution, _GRADIENTS[op], _of_gradient) for op in _GRADIENTS},
    "conv_transpose2d": Suite(
        draw_transposed,
        TRANSPOSED,
        lambda c: prod(c.weights[0] or ()) // (c.weights[0] or (1, 1))[1],
    ),
    "expand_depthwise": Suite(
        draw_expand_depthwise,
        {},
        lambda c: (c.inputs[0][1] + 1) * (prod((c.weights[2] or ())[2:]) + 1),
    ),
    "linear": Suite(draw_linear, LINEAR, lambda c: c.inputs[0][-1] + 1),
    "matmul": Suite(draw_matmul, {}, lambda c: c.inputs[0][-1]),
    "scaled_dot_product_attention": Suite(
        draw_attention, {}, lambda c: c.inputs[0][-1] * c.inputs[1][-2]
    ),
    "recurrence": Suite(draw_recurrence, {}, lambda c: 16 * prod(c.inputs[0][::2])),
    "maxpool2d": Suite(draw_pooling, _pooling("maxpool2d"), lambda c: _EXACT),
    "avgpool2d": Suite(
        draw_pooling, _pooling("avgpool2d"), lambda c: prod(pair(c.attributes["kernel_size"]))
    ),
    "adaptiveavgpool2d": Suite(
        draw_adaptive,
        {
            "empty_batch": Case("adaptiveavgpool2d", ((0, 3, 8, 8),), (), {"output_size": 2}),
            "global": Case("adaptiveavgpool2d", ((2, 35, 7, 7),), (), {"output_size": 1}),
        },
        lambda c: prod(c.inputs[0][-2:]),
    ),
    "interpolate": Suite(draw_interpolate, {}, lambda c: 16),
    "reorder": Suite(draw_reorder, {}, lambda c: _EXACT),
    **{
        op: Suite(draw_activation, _of_shapes(op, attributes), lambda c: 4)
        for op, attributes in ACTIVATIONS.items()
    },
    **{op: Suite(draw_arithmetic) for op in ("add", "sub", "mul", "div")},
    "pointwise": Suite(draw_pointwise, {}, lambda c: 4),
    **{op: Suite(draw_along, _along(op), _of_input) for op in ("mean", "sum", "prod")},
    **{op: Suite(draw_along, _along(op), _of_input) for op in ("cumsum", "cumprod", "softmax")},
    **{
        op: Suite(draw_along, _along(op), lambda c: _EXACT)
        for op in ("amax", "argmax", "argmin", "sort", "argsort")
    },
    "normalize": Suite(draw_along, _along("normalize"), _of_input),
    "layer_norm": Suite(draw_layer_norm, {}, _of_input),
    "group_norm": Suite(draw_group_norm, {}, _of_input),
    **{op: Suite(draw_batch_norm, {}, lambda c: 4) for op in ("batchnorm2d", "batch_norm")},
    "local_response_norm": Suite(draw_local_response_norm, {}, lambda c: 16),
    "flatten": Suite(draw_flatten, _of_shapes("flatten", {}), lambda c: _EXACT),
    **{op: Suite(draw_joined, {}, lambda c: _EXACT) for op in ("concat", "stack", "interleave")},
    **{
        op: Suite(draw_moved, {}, lambda c: _EXACT)
        for op in ("permute", "reshape", "expand", "roll", "slice", "flip", "pad", "take")
    },
    **{
        op: Suite(draw_indexed, {}, lambda c: c.inputs[1][0] if c.inputs[1] else 1)
        for op in INDEXED
    },
}
