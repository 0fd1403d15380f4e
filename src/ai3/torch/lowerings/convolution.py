"""Convolutions of one and three dimensions, by those of two, and of weights that are computed."""

from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.images import apart, extents, planes, rows, tensor_of
from ai3.torch.lowerings.selection import unfold
from ai3.torch.lowerings.shapes import permuted, rank, reshape
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Image, Refusal, Value


@lowers("torch.nn.functional.conv1d", "torch.conv1d")
def _conv1d(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """A convolution of images of one row."""
    attributes = {
        "stride": (1, *of(1, stride)),
        "padding": padding if isinstance(padding, str) else (0, *of(1, padding)),
        "dilation": (1, *of(1, dilation)),
        "groups": groups,
    }
    image = rows(b, x)
    if isinstance(weight, Value):
        weight = reshape(b, weight, Expression("unsqueezed", (shape_of(weight.name), 2)))
        return tensor_of(b, image, conv2d(b, image.value, weight, bias, **attributes))
    weights = [weight.unsqueeze(2), bias]
    return tensor_of(b, image, b.add("conv2d", [image.value], attributes, weights, "conv1d"))


@lowers("torch.nn.functional.conv2d", "torch.conv2d")
def conv2d(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Int = 1,
) -> Value:
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if isinstance(weight, Value) or isinstance(bias, Value):
        return _computed_weight(b, x, weight, bias, **attributes)
    return b.add("conv2d", [x], attributes, [weight, bias])


def _computed_weight(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Int,
) -> Value:
    """The product of the weight (groups, OC / groups, IC / groups * KH * KW) and the windows of
    the image, for weights that are known only when the network runs."""
    weight = b.value(weight)
    oc, ic, kh, kw = extents(weight, 4)
    own = rank(x)
    x = reshape(b, x, Expression("batched", (shape_of(x.name), 4)))
    pads = Expression("convolution padding", (padding, (kh, kw), dilation))
    x = b.add("pad", [x], {"pad": pads, "mode": "constant", "value": 0.0})
    columns, (oh, ow) = unfold(b, x, (kh, kw), of(2, dilation), of(2, stride))
    n = shape_of(x.name)[0]
    columns = reshape(b, columns, (n, groups, ic * kh * kw, oh * ow))
    weight = reshape(b, weight, (groups, oc // groups, ic * kh * kw))
    y = reshape(b, b.add("matmul", [weight, columns]), (n, oc, oh, ow))
    if bias is not None:
        y = b.add("add", [y, reshape(b, b.value(bias), (oc, 1, 1))])
    return reshape(b, y, Expression("last", (shape_of(y.name), own)))


@lowers("torch.nn.functional.conv3d", "torch.conv3d")
def _conv3d(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """A convolution of planes, whose channels are those of all planes that a kernel reaches."""
    kd, *kernel = _constant(weight, "conv3d").shape[2:]
    (sd, *stride), (dd, *dilation) = of(3, stride), of(3, dilation)
    if isinstance(padding, str):
        front, back = (0, 0) if padding == "valid" else _same(kd, dd)
        padding = padding if padding == "valid" or not any(k > 1 for k in kernel) else "same"
    else:
        front, *padding = of(3, padding)
        back = front
    image = planes(b, x)
    value, depth = image.value, image.depth
    if (kd, sd, front, back) != (1, 1, 0, 0):
        extent = depth + (front + back)
        indices = Expression("windows", (extent, kd, sd, dd))
        value = _gathered(b, image, front, back, indices, kd, groups)
        depth = Expression("windows of", (extent, dd * (kd - 1) + 1, sd))
    # (OC, IC, KD, KH, KW) to channels that lie plane by plane.
    flat = weight.transpose(1, 2).flatten(1, 2)
    attributes = {
        "stride": tuple(stride),
        "padding": padding if isinstance(padding, str) else tuple(padding),
        "dilation": tuple(dilation),
        "groups": groups,
    }
    y = b.add("conv2d", [value], attributes, [flat, bias], "conv3d")
    return tensor_of(b, image, y, depth)


@lowers("torch.nn.functional.conv_transpose1d", "torch.conv_transpose1d")
def _conv_transpose1d(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    attributes = {
        "stride": (1, *of(1, stride)),
        "padding": (0, *of(1, padding)),
        "output_padding": (0, *of(1, output_padding)),
        "groups": groups,
        "dilation": (1, *of(1, dilation)),
    }
    weights = [_constant(weight, "conv_transpose1d").unsqueeze(2), bias]
    image = rows(b, x)
    y = b.add("conv_transpose2d", [image.value], attributes, weights, "conv_transpose1d")
    return tensor_of(b, image, y)


@lowers("torch.nn.functional.conv_transpose3d", "torch.conv_transpose3d")
def _conv_transpose3d(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Output planes od = sd * j + r, for each r by a transposed convolution of planes: kernel plane
    k reaches od from plane (od + pd - dd * k) / sd of the input where that is an integer."""
    kd = _constant(weight, "conv_transpose3d").shape[2]
    (sd, *stride), (pd, *padding) = of(3, stride), of(3, padding)
    (od, *output_padding), (dd, *dilation) = of(3, output_padding), of(3, dilation)
    attributes = {
        "stride": tuple(stride),
        "padding": tuple(padding),
        "output_padding": tuple(output_padding),
        "groups": groups,
        "dilation": tuple(dilation),
    }
    image = planes(b, x)
    depth = (image.depth - 1) * sd + (dd * (kd - 1) + 1 + od - 2 * pd)
    count = (depth + (sd - 1)) // sd
    phases = []
    for r in range(sd):
        taps = [(k, (r + pd - dd * k) // sd) for k in range(kd) if (r + pd - dd * k) % sd == 0]
        # Where no kernel plane falls, one before all planes, which is zero.
        offsets = tuple(offset for _, offset in taps) or (0,)
        front = max(0, -min(offsets)) if taps else 1
        back = Expression("max", (0, count + max(offsets) - image.depth))
        places = tuple(front + offset for offset in offsets) if taps else (None,)
        indices = Expression("planes", (count, places))
        value = _gathered(b, image, front, back, indices, len(offsets), groups)
        used = weight[:, :, [k for k, _ in taps] or [0]]
        # (IC, OC / groups, KD, KH, KW) to input channels that lie plane by plane in each group.
        split = used.unflatten(0, (groups, -1)).movedim(3, 1)
        weights = [split.flatten(0, 2), bias]
        phases.append(b.add("conv_transpose2d", [value], attributes, weights, "conv_transpose3d"))
    if sd == 1:
        return tensor_of(b, image, phases[0], depth)
    _, c, h, w = extents(phases[0], 4)
    y = reshape(b, b.add("stack", phases, {"dim": 1}), (image.batch, count * sd, c, h, w))
    y = b.add("slice", [y], {"dim": 1, "start": 0, "end": depth, "step": 1})
    return tensor_of(b, image, reshape(b, y, (image.batch * depth, c, h, w)), depth)


def _gathered(
    b: Builder, image: Image, front: Int, back: Any, indices: Expression, taps: int, groups: int
) -> Value:
    """Images (N * OD, taps * C, H, W) of the planes that `indices` names, `taps` for each output
    plane; in each group of channels they lie plane by plane. Before and after all there are planes
    of zeros."""
    x = apart(b, image)
    pads = (0, 0, 0, 0, 0, 0, front, back)
    x = b.add("pad", [x], {"pad": pads, "mode": "constant", "value": 0.0})
    x = b.add("take", [x], {"dim": 1, "indices": indices})
    n, d, c, h, w = extents(x, 5)
    if groups > 1:
        split = reshape(b, x, (n, d // taps, taps, groups, c // groups, h, w))
        x = permuted(b, split, (0, 1, 3, 2, 4, 5, 6))
    return reshape(b, x, (n * (d // taps), c * taps, h, w))


def _constant(weight: Any, what: str) -> torch.Tensor:
    if not isinstance(weight, torch.Tensor):
        raise Refusal(f"{what} with weights that the network computes")
    return weight


def _same(kernel: int, dilation: int) -> tuple[int, int]:
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2


def of(count: int, value: Any) -> tuple[Any, ...]:
    """One number for each of so many dimensions."""
    if not isinstance(value, tuple | list):
        return (value,) * count
    return tuple(value) * count if len(value) == 1 else tuple(value)
