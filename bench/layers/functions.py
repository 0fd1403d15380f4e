"""The operations of networks other than chains of layers, against torch's function of the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch.nn import functional as F

from ai3 import _core
from bench.case import Case, algorithms_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """Torch's function of inputs and then weights, and the core's attributes for the same."""

    inputs: tuple[Shape, ...]
    function: Callable[..., torch.Tensor]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[Shape, ...] = ()
    flops: int = 0


def cases(op: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    for work in WORK[op]:
        inputs = [torch.randn(shape) for shape in work.inputs]
        weights = [torch.randn(shape) for shape in work.weights]
        arguments = [*inputs, *weights]

        @torch.inference_mode()
        def in_torch(work: Work = work, given: list[torch.Tensor] = arguments) -> torch.Tensor:
            return work.function(*given).contiguous()

        @torch.inference_mode()
        def exact(work: Work = work, given: list[torch.Tensor] = arguments) -> torch.Tensor:
            return work.function(*(x.double() for x in given)).contiguous()

        sides: dict[str, Callable[[], object]] = {"torch": in_torch}
        specs = [_core.Spec("float32", shape) for shape in work.inputs]
        kept = _core.Weights.of(weights)
        problem = _core.problem(op, specs, kept, dict(work.attributes))
        for algorithm in algorithms_of(op, algorithms):
            if not problem.refusal(algorithm):
                call = _core.Call(op, dict(work.attributes), algorithm)
                call.set_weights(kept)
                sides[algorithm] = _call(call, inputs)
        name = " and ".join("x".join(map(str, shape)) for shape in (*work.inputs, *work.weights))
        text = ", ".join(f"{key} {value}" for key, value in work.attributes.items())
        moved = 4 * sum(map(prod, (*work.inputs, *work.weights, problem.output.shape)))
        title = f"{name}, {text}" if text else name
        yield Case(op, title, sides, ("torch",), work.flops, moved, exact)


def _call(call: _core.Call, inputs: list[torch.Tensor]) -> Callable[[], object]:
    @torch.inference_mode()
    def run() -> object:
        return call(*inputs)

    return run


def _activation(function: Callable[[torch.Tensor], torch.Tensor]) -> list[Work]:
    return [Work((shape,), function) for shape in ((1, 64, 112, 112), (1, 197, 3072))]


def _arithmetic(function: Callable[..., torch.Tensor]) -> list[Work]:
    image = (1, 256, 56, 56)
    others = (image, (1, 256, 1, 1), (56,), ())
    return [Work((image, other), function) for other in others]


def _permute(shape: Shape, dims: Shape) -> Work:
    return Work((shape,), lambda x: x.permute(dims), {"dims": dims})


def _reduction(function: Callable[..., torch.Tensor]) -> list[Work]:
    places: tuple[tuple[Shape, Shape], ...] = (
        ((8, 1280, 7, 7), (2, 3)),
        ((8, 49, 768), (1,)),
        ((64, 4096), (1,)),
    )
    return [
        Work((shape,), lambda x, dim=dim: function(x, dim=dim), {"dim": dim})
        for shape, dim in places
    ]


def _matmul(a: Shape, b: Shape) -> Work:
    flops = 2 * prod(a) * b[-1] * (prod(b[:-2]) if len(a) == 2 else 1)
    return Work((a, b), torch.matmul, flops=flops)


def _attention(front: Shape, length: int, width: int, mask: Shape | None = None) -> Work:
    one = (*front, length, width)
    inputs = (one, one, one) if mask is None else (one, one, one, mask)
    flops = 4 * prod(one) * length
    return Work(inputs, F.scaled_dot_product_attention, flops=flops)


def _layer_norm(shape: Shape) -> Work:
    last = shape[-1:]
    return Work(
        (shape,),
        lambda x, weight, bias: F.layer_norm(x, last, weight, bias),
        {"normalized_shape": last},
        (last, last),
    )


def _interpolate(shape: Shape, size: Shape, mode: str) -> Work:
    attributes = {"size": size, "mode": mode}
    return Work((shape,), lambda x: F.interpolate(x, **attributes), attributes)


def _transposed(shape: Shape, weight: Shape, stride: int, padding: int) -> Work:
    attributes = {"stride": stride, "padding": padding}
    return Work(
        (shape,),
        lambda x, w: F.conv_transpose2d(x, w, **attributes),
        attributes,
        (weight,),
        2 * prod(shape) * prod(weight[1:]),
    )


def _pointwise(program: str, function: Callable[..., torch.Tensor], inputs: int = 1) -> Work:
    return Work(((2, 1024, 1024),) * inputs, function, {"program": program})


WORK: dict[str, list[Work]] = {
    "pointwise": [
        _pointwise(
            "mul(x0, 0.5); add(t0, 1.0); maximum(t1, -0.5); minimum(t2, 2.0); abs(t3)",
            lambda x: (x * 0.5 + 1).clamp(-0.5, 2).abs(),
        ),
        _pointwise(
            "mul(x0, 0.5); add(t0, 1.0); maximum(t1, -0.5); sub(t2, x1); abs(t3)",
            lambda x, y: ((x * 0.5 + 1).clamp(min=-0.5) - y).abs(),
            inputs=2,
        ),
        _pointwise("abs(x0); log(t0)", lambda x: x.abs().log()),
        _pointwise("abs(x0); log1p(t0)", lambda x: x.abs().log1p()),
        _pointwise("abs(x0); pow(t0, 1.7)", lambda x: x.abs().pow(1.7)),
        _pointwise("sin(x0)", torch.sin),
        _pointwise("cos(x0)", torch.cos),
    ],
    "relu6": _activation(F.relu6),
    "leaky_relu": _activation(F.leaky_relu),
    "silu": _activation(F.silu),
    "hardswish": _activation(F.hardswish),
    "hardsigmoid": _activation(F.hardsigmoid),
    "sigmoid": _activation(torch.sigmoid),
    "tanh": _activation(torch.tanh),
    "gelu": _activation(F.gelu),
    "elu": _activation(F.elu),
    "add": _arithmetic(torch.add),
    "sub": _arithmetic(torch.sub),
    "mul": _arithmetic(torch.mul),
    "div": _arithmetic(torch.div),
    "mean": _reduction(torch.mean),
    "sum": _reduction(torch.sum),
    "amax": _reduction(torch.amax),
    "softmax": [
        Work((shape,), lambda x, dim=dim: x.softmax(dim), {"dim": dim})
        for shape, dim in (((64, 4, 49, 49), -1), ((12, 197, 197), -1), ((1, 21, 224, 224), 1))
    ],
    "layer_norm": [_layer_norm((1, 197, 768)), _layer_norm((1, 56, 56, 128))],
    "group_norm": [
        Work(
            ((4, 256, 28, 28),),
            lambda x, weight, bias: F.group_norm(x, 32, weight, bias),
            {"num_groups": 32},
            ((256,), (256,)),
        )
    ],
    "local_response_norm": [
        Work(((1, 64, 55, 55),), lambda x: F.local_response_norm(x, 5), {"size": 5})
    ],
    "normalize": [Work(((64, 4, 49, 32),), lambda x: F.normalize(x, dim=-1), {"dim": -1})],
    "matmul": [
        _matmul((64, 2, 49, 32), (64, 2, 32, 49)),
        _matmul((64, 2, 49, 49), (64, 2, 49, 32)),
        _matmul((12, 197, 64), (12, 64, 197)),
        _matmul((512, 512), (512, 512)),
    ],
    "scaled_dot_product_attention": [
        _attention((1, 12), 197, 64),
        _attention((1, 64, 4), 49, 32, (64, 1, 49, 49)),
        _attention((1, 8), 1024, 64),
    ],
    "permute": [
        _permute((1, 128, 56, 56), (0, 2, 3, 1)),
        _permute((1, 56, 56, 128), (0, 3, 1, 2)),
        _permute((1, 2, 116, 28, 28), (0, 2, 1, 3, 4)),
        _permute((1, 8, 7, 8, 7, 128), (0, 1, 3, 2, 4, 5)),
        _permute((1, 64, 49, 3, 4, 32), (3, 0, 1, 4, 2, 5)),
    ],
    "slice": [
        Work(((1, 232, 28, 28),), lambda x: x[:, 116:], {"dim": 1, "start": 116}),
        Work(((1, 56, 56, 128),), lambda x: x[:, :, 1::2], {"dim": 2, "start": 1, "step": 2}),
        Work(((1, 64, 56, 56),), lambda x: x[..., ::2], {"dim": -1, "step": 2}),
    ],
    "roll": [
        Work(
            ((1, 56, 56, 128),),
            lambda x: torch.roll(x, (-3, -3), (1, 2)),
            {"shifts": (-3, -3), "dims": (1, 2)},
        )
    ],
    "pad": [
        Work(
            ((1, 64, 56, 56),),
            lambda x, mode=mode: F.pad(x, (1, 1, 1, 1), mode),
            {"pad": (1, 1, 1, 1), "mode": mode},
        )
        for mode in ("constant", "reflect")
    ],
    "expand": [
        Work(((1, 256, 1, 1),), lambda x: x.expand(1, 256, 56, 56), {"shape": (1, 256, 56, 56)})
    ],
    "concat": [
        Work(((1, 128, 56, 56), (1, 32, 56, 56)), lambda *x: torch.cat(x, 1), {"dim": 1}),
        Work(((1, 1, 768), (1, 196, 768)), lambda *x: torch.cat(x, 1), {"dim": 1}),
        Work(((56, 56, 128),) * 4, lambda *x: torch.cat(x, -1), {"dim": -1}),
    ],
    "interpolate": [
        _interpolate((1, 21, 28, 28), (224, 224), "bilinear"),
        _interpolate((1, 64, 56, 56), (112, 112), "nearest"),
        _interpolate((1, 3, 224, 224), (384, 384), "bicubic"),
    ],
    "conv_transpose2d": [
        _transposed((1, 256, 28, 28), (256, 128, 2, 2), 2, 0),
        _transposed((1, 128, 28, 28), (128, 64, 4, 4), 2, 1),
    ],
}
