"""The graph's operations by torch's own functions, on whatever device the tensors are: what runs
where a platform has no algorithm of its own."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from ai3.graph.program import program_of
from ai3.platforms import activations
from ai3.torch.device_recurrence import recurrence
from ai3.torch.programs import run_program

Attributes: TypeAlias = Mapping[str, Any]
Function: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor | None], Attributes], Tensor]
"""Of inputs, weights and attributes."""


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _four(padding: Any) -> tuple[int, int, int, int]:
    """top, bottom, left, right"""
    if isinstance(padding, int) or len(padding) < 4:
        vertical, horizontal = _pair(padding)
        return (vertical, vertical, horizontal, horizontal)
    top, bottom, left, right = padding
    return (top, bottom, left, right)


def _finished(y: Tensor, others: Sequence[Tensor], a: Attributes) -> Tensor:
    """With the residual added and the activation applied, in place."""
    if others:
        y.add_(others[0])
    name = a.get("activation") or "none"
    if name != "none":
        activations.IN_PLACE[name](y, float(a.get("activation_parameter") or 0.0))
    return y


def _conv2d(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias = (*weights, None)[:2]
    stride, dilation = _pair(a.get("stride", 1)), _pair(a.get("dilation", 1))
    padding, mode = a.get("padding", 0), a.get("padding_mode", "zeros")
    x = inputs[0]
    if padding in ("same", "valid"):
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = [(t // 2, t - t // 2) if padding == "same" else (0, 0) for t in totals]
        (top, bottom), (left, right) = sides
    else:
        top, bottom, left, right = _four(padding)
    if (top, left) != (bottom, right) or mode != "zeros":
        shown = "constant" if mode == "zeros" else mode
        x, top, left = functional.pad(x, (left, right, top, bottom), shown), 0, 0
    y = functional.conv2d(x, weight, bias, stride, (top, left), dilation, a.get("groups", 1))
    return _finished(y, inputs[1:], a)


def _conv_transpose2d(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias = (*weights, None)[:2]
    names = ("stride", "padding", "output_padding")
    stride, padding, added = (a.get(name, int(name == "stride")) for name in names)
    groups, dilation = a.get("groups", 1), a.get("dilation", 1)
    return functional.conv_transpose2d(
        inputs[0], weight, bias, stride, padding, added, groups, dilation
    )


def _linear(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias = (*weights, None)[:2]
    return _finished(functional.linear(inputs[0], weight, bias), inputs[1:], a)


def _expand_depthwise(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    names = ("activation", "activation_parameter")
    first = {name: a[f"expand_{name}"] for name in names if f"expand_{name}" in a}
    wide = _conv2d(inputs, weights[:2], first)
    rest = {k: v for k, v in a.items() if not k.startswith("expand_")}
    return _conv2d([wide], weights[2:], {**rest, "groups": wide.shape[-3]})


def _maxpool2d(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    size, stride = a["kernel_size"], a.get("stride") or a["kernel_size"]
    padding, dilation = a.get("padding", 0), a.get("dilation", 1)
    return functional.max_pool2d(
        inputs[0], size, stride, padding, dilation, a.get("ceil_mode", False)
    )


def _avgpool2d(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    size, stride = a["kernel_size"], a.get("stride") or a["kernel_size"]
    ceil, counted = a.get("ceil_mode", False), a.get("count_include_pad", True)
    divisor = a.get("divisor_override")
    return functional.avg_pool2d(
        inputs[0], size, stride, a.get("padding", 0), ceil, counted, divisor
    )


def _batch_norm(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias, mean, variance = weights
    return functional.batch_norm(
        inputs[0], mean, variance, weight, bias, False, 0.0, a.get("eps", 1e-5)
    )


def _batchnorm2d(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    (x,) = inputs
    return _batch_norm([x[None]], weights, a)[0] if x.dim() == 3 else _batch_norm([x], weights, a)


def _layer_norm(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias = (*weights, None, None)[:2]
    shape = a["normalized_shape"]
    shape = [shape] if isinstance(shape, int) else list(shape)
    return functional.layer_norm(inputs[0], shape, weight, bias, a.get("eps", 1e-5))


def _group_norm(inputs: Sequence[Tensor], weights: Sequence[Any], a: Attributes) -> Tensor:
    weight, bias = (*weights, None, None)[:2]
    return functional.group_norm(inputs[0], a["num_groups"], weight, bias, a.get("eps", 1e-5))


def _local_response_norm(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    numbers = (a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("k", 1.0))
    return functional.local_response_norm(inputs[0], a["size"], *numbers)


def program_for(op: str, attributes: Attributes) -> str | None:
    """The program that does an operation, whose attributes may be left out; None where there is
    none."""
    return program_of(op, {**_DEFAULTS.get(op, {}), **attributes})


def _program(op: str) -> Function:
    def run(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
        text = program_for(op, a)
        assert text is not None
        return run_program(text, inputs)

    return run


_DEFAULTS: dict[str, Attributes] = {
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
}


def _interleave(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    dim = a.get("dim", 0) % inputs[0].dim()
    whole = torch.stack(list(inputs), dim + 1).flatten(dim, dim + 1)
    start, end = a.get("start", 0), a.get("end")
    return whole.narrow(dim, start, (whole.shape[dim] if end is None else end) - start)


def _reorder(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    dtype = a.get("output_dtype")
    return inputs[0] if dtype is None else inputs[0].to(getattr(torch, dtype))


def _slice(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    (x,) = inputs
    dim = a.get("dim", 0) % x.dim()
    places = slice(a.get("start", 0), a.get("end"), a.get("step", 1))
    return x[(*[slice(None)] * dim, places)]


def _pad(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    (x,), pads, mode = inputs, list(a["pad"]), a.get("mode") or "constant"
    if mode == "constant":
        value = a.get("value") or 0
        return functional.pad(x, pads, value=value if x.is_floating_point() else int(value))
    for i in range(len(pads) // 2):
        x = _bordered(x, x.dim() - 1 - i, pads[2 * i], pads[2 * i + 1], mode)
    return x


def _bordered(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    """One dimension with borders of what the mode shows; negative ones are cut off."""
    extent = x.shape[dim]
    places = torch.arange(-before, extent + after, device=x.device)
    if mode == "replicate":
        places = places.clamp(0, extent - 1)
    elif mode == "circular":
        places = places % extent
    else:
        places = (extent - 1) - ((extent - 1) - places.abs()).abs()
    return x.index_select(dim, places)


def _reduction(function: Callable[..., Tensor]) -> Function:
    def run(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
        (x,), dim = inputs, a.get("dim")
        dims = range(x.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
        if not dims:
            return x.clone()
        return function(x, dim=tuple(dims), keepdim=a.get("keepdim", False))

    return run


def _along(function: Callable[..., Tensor]) -> Function:
    """Of the elements along one dimension, or of all as one line."""

    def run(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
        (x,), dim, keepdim = inputs, a.get("dim"), a.get("keepdim", False)
        if dim is not None and x.dim():
            return function(x, dim=dim, keepdim=keepdim)
        y = function(x.flatten(), dim=0, keepdim=False)
        return y.view([1] * x.dim()) if keepdim else y

    return run


def _cumulative(function: Callable[..., Tensor]) -> Function:
    def run(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
        (x,), dim = inputs, a.get("dim")
        return function(x.flatten(), 0).view(x.shape) if dim is None else function(x, dim)

    return run


def _sorted(which: int) -> Function:
    def run(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
        descending = a.get("descending", False)
        return torch.sort(inputs[0], dim=a.get("dim", -1), descending=descending, stable=True)[
            which
        ]

    return run


def _places(index: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Indices from the front, 0 for those out of range, and which those are."""
    index = index.long()
    index = torch.where(index < 0, index + extent, index)
    outside = (index < 0) | (index >= extent)
    return index.masked_fill(outside, 0), outside


def _none(x: Tensor) -> Any:
    """What an index that is out of range gives."""
    if x.is_floating_point():
        return float("nan")
    return False if x.dtype is torch.bool else torch.iinfo(x.dtype).min


def _index_select(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    x, index = inputs
    dim = a.get("dim", 0) % x.dim()
    if x.shape[dim] == 0:
        return x.new_full((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]), _none(x))
    places, outside = _places(index, x.shape[dim])
    shape = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
    y = x.index_select(dim, places.flatten()).view(shape)
    return y.masked_fill(outside.view(*index.shape, *[1] * (x.dim() - dim - 1)), _none(x))


def _gather(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    x, index = inputs
    dim = a.get("dim", 0)
    places, outside = _places(index, x.shape[dim])
    return torch.gather(x, dim, places).masked_fill(outside, _none(x))


_REDUCTIONS = {"sum": "sum", "prod": "prod", "amax": "amax", "amin": "amin"}


def _scatter(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    x, index, source = inputs
    dim, reduce = a.get("dim", 0) % x.dim(), a.get("reduce", "set")
    places, outside = _places(index, x.shape[dim])
    source = source[tuple(slice(n) for n in index.shape)]
    if reduce == "set":
        y = x.scatter(dim, places, source)
    elif x.dtype is torch.bool:
        whole = x.to(torch.uint8).scatter_reduce(dim, places, source.to(torch.uint8), reduce)
        y = whole.bool()
    else:
        y = x.scatter_reduce(dim, places, source, reduce)
    lines = outside.any(dim, keepdim=True)
    missing = [(0, n - m) for n, m in zip(x.shape, lines.shape, strict=True)]
    missing[dim] = (0, 0)
    sides = [side for pair in reversed(missing) for side in pair]
    return y.masked_fill(functional.pad(lines, sides), _none(x))


def _take(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    (x,), dim = inputs, a.get("dim", 0)
    extent = max(1, x.shape[dim])
    places = tuple(index % extent for index in a["indices"])
    return x.index_select(dim, _on(x.device, places))


@cache
def _on(device: torch.device, indices: tuple[int, ...]) -> Tensor:
    """Indices that lie on the device for good: a copy from the host cannot be a part of a CUDA
    graph, which reads what was there when it was captured."""
    return torch.tensor(indices, dtype=torch.int64, device=device)


def _roll(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    return torch.roll(inputs[0], a["shifts"], a.get("dims") or ())


def _attention(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    query, key, value, *masks = inputs
    causal, scale = bool(a.get("is_causal", False)), a.get("scale")
    seen = None
    if causal and masks:
        size = (query.shape[-2], key.shape[-2])
        seen = torch.ones(size, dtype=torch.bool, device=query.device).tril()
    mask = masks[0] if masks else None
    if mask is not None and seen is not None:
        mask = mask & seen if mask.dtype is torch.bool else mask.masked_fill(~seen, -torch.inf)
        causal = False
    y = functional.scaled_dot_product_attention(
        query, key, value, mask, is_causal=causal, scale=scale
    )
    return y if mask is None else y.nan_to_num(0.0) if not y.requires_grad else y


def _interpolate(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    given = {name: a[name] for name in names if a.get(name) is not None}
    return functional.interpolate(inputs[0], **given)


def _attributes(function: Callable[..., Tensor], *names: str) -> Function:
    """A function of one input and attributes that must be there."""
    return lambda inputs, _, a: function(inputs[0], *(a[name] for name in names))


def _normalize(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    return functional.normalize(inputs[0], 2.0, a.get("dim", 1), a.get("eps", 1e-12))


def _flatten(inputs: Sequence[Tensor], _: Any, a: Attributes) -> Tensor:
    return inputs[0].flatten(a.get("start_dim", 0), a.get("end_dim", -1))


def _prod(x: Tensor, *, dim: int, keepdim: bool) -> Tensor:
    return x.prod(dim, keepdim=keepdim)


_PROGRAMS = (
    *("relu", "relu6", "leaky_relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
    *("gelu", "elu", "add", "sub", "mul", "div", "pointwise"),
)

FUNCTIONS: dict[str, Function] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "expand_depthwise": _expand_depthwise,
    "maxpool2d": _maxpool2d,
    "avgpool2d": _avgpool2d,
    "adaptiveavgpool2d": _attributes(functional.adaptive_avg_pool2d, "output_size"),
    **{op: _program(op) for op in _PROGRAMS},
    "batchnorm2d": _batchnorm2d,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "normalize": _normalize,
    "softmax": _attributes(torch.softmax, "dim"),
    "flatten": _flatten,
    "reshape": _attributes(torch.reshape, "shape"),
    "permute": _attributes(torch.permute, "dims"),
    "expand": _attributes(Tensor.expand, "shape"),
    "flip": _attributes(torch.flip, "dims"),
    "concat": lambda inputs, _, a: torch.cat(list(inputs), a.get("dim", 0)),
    "stack": lambda inputs, _, a: torch.stack(list(inputs), a.get("dim", 0)),
    "interleave": _interleave,
    "reorder": _reorder,
    "slice": _slice,
    "roll": _roll,
    "pad": _pad,
    "mean": _reduction(torch.mean),
    "sum": _reduction(torch.sum),
    "amax": _reduction(torch.amax),
    "argmax": _along(torch.argmax),
    "argmin": _along(torch.argmin),
    "prod": _along(_prod),
    "cumsum": _cumulative(torch.cumsum),
    "cumprod": _cumulative(torch.cumprod),
    "sort": _sorted(0),
    "argsort": _sorted(1),
    "index_select": _index_select,
    "gather": _gather,
    "scatter": _scatter,
    "take": _take,
    "matmul": lambda inputs, _, a: torch.matmul(*inputs),
    "scaled_dot_product_attention": _attention,
    "recurrence": recurrence,
    "interpolate": _interpolate,
}
"""By operation."""
