"""What an algorithm is told of its work."""

from collections.abc import Callable
from math import prod
from types import MappingProxyType
from typing import Any

Shape = tuple[int, ...]


class Problem:
    """Everything that defines the work of an operation, and nothing about how it is done.

    Attributes:
        op: the operation's name.
        dtype: of the output, "float32" or another.
        inputs: the shape of each input.
        input_dtypes: the dtype of each input.
        input_layouts: the layout of each input, "dense" but for those that an algorithm takes.
        weights: the shape of each weight; None for an absent bias.
        output: the output's shape.
        output_layout: the output's layout.
        attributes: the operation's hyper-parameters, by torch's names.
        threads: how many threads it may use.
        device: the type of the device that the arrays are on, as torch names it.
        memory: the bytes that a workspace may have; None where there is no limit.

    The hyper-parameters are attributes of it too; so are the field's names for convolutions and
    their gradients (N IC IH IW OC KH KW OH OW groups padding_mode, stride_h, stride_w, dilation_h,
    dilation_w, pad_top, pad_bottom, pad_left, pad_right), for pooling (N C IH IW KH KW OH OW and
    the rest) and for linear layers (rows, IC, OC).
    """

    __slots__ = (
        *("_fields", "attributes", "device", "dtype", "input_dtypes", "input_layouts"),
        *("inputs", "memory", "op", "output", "output_layout", "threads", "weights"),
    )

    def __init__(
        self, description: tuple[Any, ...], device: str = "cpu", memory: int | None = None
    ) -> None:
        op, inputs, weights, output, attributes, threads = description
        values = {
            "op": op,
            "dtype": output.dtype,
            "inputs": tuple(spec.shape for spec in inputs),
            "input_dtypes": tuple(spec.dtype for spec in inputs),
            "input_layouts": tuple(spec.layout for spec in inputs),
            "weights": tuple(spec if spec is None else spec.shape for spec in weights),
            "output": output.shape,
            "output_layout": output.layout,
            "attributes": MappingProxyType(attributes),
            "threads": threads,
            "device": device,
            "memory": memory,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        fields = dict(attributes)
        if op in _FIELDS:
            fields |= _FIELDS[op](self)
        object.__setattr__(self, "_fields", fields)

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_fields")[name]
        except KeyError:
            known = ", ".join(sorted(self._fields))
            raise AttributeError(
                f"a problem of {self.op} has no {name!r}; beside op, inputs, weights, output, "
                f"attributes, dtype and threads it has {known}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a problem cannot be changed")

    def __repr__(self) -> str:
        shapes = ", ".join(map(str, self.inputs))
        held = ", ".join(map(str, self.weights))
        given = "".join(f", {k}={v!r}" for k, v in self.attributes.items())
        return f"<{self.op} of {shapes} by {held or 'no weights'}{given}, {self.dtype}>"


def _pair(value: Any, otherwise: int = 1) -> tuple[int, int]:
    if value is None:
        return (otherwise, otherwise)
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _four(shape: Shape) -> Shape:
    return (1,) * (4 - len(shape)) + tuple(shape)


def _has_bias(p: Problem) -> bool:
    return len(p.weights) > 1 and p.weights[1] is not None


def _convolution(p: Problem, input: Shape, kernel: Shape, output: Shape) -> dict[str, Any]:
    """Of the convolution from `input` to `output`."""
    attributes = p.attributes
    (n, ic, ih, iw), (oc, _, kh, kw), (_, _, oh, ow) = _four(input), kernel, _four(output)
    stride, dilation = _pair(attributes.get("stride")), _pair(attributes.get("dilation"))
    padding = attributes.get("padding", 0)
    if padding in ("same", "valid"):
        same = int(padding == "same")
        totals = (same * dilation[0] * (kh - 1), same * dilation[1] * (kw - 1))
        pads = [side for total in totals for side in (total // 2, total - total // 2)]
    elif isinstance(padding, int) or len(padding) < 4:
        vertical, horizontal = _pair(padding)
        pads = [vertical, vertical, horizontal, horizontal]
    else:
        pads = list(padding)
    return {
        "N": n,
        "IC": ic,
        "IH": ih,
        "IW": iw,
        "OC": oc,
        "KH": kh,
        "KW": kw,
        "OH": oh,
        "OW": ow,
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        **dict(zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), pads, strict=True)),
        "groups": attributes.get("groups", 1),
        "padding_mode": attributes.get("padding_mode", "zeros"),
        "has_bias": _has_bias(p),
    }


def _conv2d(p: Problem) -> dict[str, Any]:
    return _convolution(p, p.inputs[0], p.weights[0] or (), p.output)


def _conv2d_grad_input(p: Problem) -> dict[str, Any]:
    return _convolution(p, p.output, p.weights[0] or (), p.inputs[0])


def _conv2d_grad_weight(p: Problem) -> dict[str, Any]:
    return _convolution(p, p.inputs[0], p.output, p.inputs[1])


def _conv_transpose2d(p: Problem) -> dict[str, Any]:
    """By the names of the convolution whose gradient it is: IC channels come out."""
    return _convolution(p, p.output, p.weights[0] or (), p.inputs[0])


def _pooling(p: Problem) -> dict[str, Any]:
    (n, c, ih, iw), (_, _, oh, ow) = _four(p.inputs[0]), _four(p.output)
    fields = {"N": n, "C": c, "IH": ih, "IW": iw, "OH": oh, "OW": ow}
    if "kernel_size" not in p.attributes:
        return fields
    kernel = _pair(p.attributes["kernel_size"])
    stride = _pair(p.attributes.get("stride") or p.attributes["kernel_size"])
    padding, dilation = _pair(p.attributes.get("padding"), 0), _pair(p.attributes.get("dilation"))
    return fields | {
        "KH": kernel[0],
        "KW": kernel[1],
        "stride_h": stride[0],
        "stride_w": stride[1],
        "pad_top": padding[0],
        "pad_left": padding[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
    }


def _linear(p: Problem) -> dict[str, Any]:
    *rows, ic = p.inputs[0]
    return {"rows": prod(rows), "IC": ic, "OC": p.output[-1], "has_bias": _has_bias(p)}


_FIELDS: dict[str, Callable[[Problem], dict[str, Any]]] = {
    "conv2d": _conv2d,
    "conv2d_grad_input": _conv2d_grad_input,
    "conv2d_grad_weight": _conv2d_grad_weight,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "maxpool2d": _pooling,
    "avgpool2d": _pooling,
    "adaptiveavgpool2d": _pooling,
}
