"""Normalisation."""

from typing import Any

import torch
from torch import nn

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import reshape
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


@lowers("torch.nn.functional.layer_norm", "torch.layer_norm")
def _layer_norm(
    b: Builder,
    x: Value,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    attributes = {"normalized_shape": tuple(normalized_shape), "eps": eps}
    return b.add("layer_norm", [x], attributes, [weight, bias])


@lowers("torch.nn.functional.group_norm", "torch.group_norm")
def _group_norm(
    b: Builder,
    x: Value,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    return b.add("group_norm", [x], {"num_groups": num_groups, "eps": eps}, [weight, bias])


@lowers("torch.nn.functional.batch_norm")
def _batch_norm(
    b: Builder,
    x: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or running_mean is None:
        raise Refusal("batch_norm by the batch's own statistics; call eval() first")
    return b.add("batch_norm", [x], {"eps": eps}, [weight, bias, running_mean, running_var])


@lowers("aten.batch_norm", "torch.batch_norm")
def _aten_batch_norm(
    b: Builder,
    x: Value,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    return _batch_norm(b, x, mean, var, weight, bias, training, momentum, eps)


@lowers("torch.nn.functional.instance_norm")
def _instance_norm(
    b: Builder,
    x: Value,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """By the statistics of each channel of each sample, or by those that were learned."""
    if not use_input_stats:
        return b.add("batch_norm", [x], {"eps": eps}, [weight, bias, running_mean, running_var])
    channels = shape_of(x.name)[1]
    return b.add("group_norm", [x], {"num_groups": channels, "eps": eps}, [weight, bias])


@lowers("aten.instance_norm", "torch.instance_norm")
def _aten_instance_norm(
    b: Builder, x: Value, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any
) -> Value:
    return _instance_norm(b, x, mean, var, weight, bias, *rest[:3])


@lowers("torch.nn.functional.rms_norm", "torch.rms_norm")
def _rms_norm(
    b: Builder, x: Value, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Value:
    """x / sqrt(mean(x^2) + eps) * weight (Zhang, Sennrich, arXiv 1910.07467)."""
    dims = tuple(range(-len(normalized_shape), 0))
    squares = b.add("mean", [b.add("mul", [x, x])], {"dim": dims, "keepdim": True})
    eps = torch.finfo(b.dtype).eps if eps is None else eps
    scaled = pointwise(b, "x * rsqrt(m + eps)", x=x, m=squares, eps=eps)
    return scaled if weight is None else b.add("mul", [scaled, weight])


def module_batch_norm(b: Builder, module: nn.Module, x: Value) -> Value:
    """Of nn.BatchNorm1d and nn.BatchNorm3d."""
    if module.training or module.running_mean is None:
        raise Refusal(
            f"{type(module).__name__} that normalises by the batch's own statistics; "
            "call eval() first"
        )
    weights = [module.weight, module.bias, module.running_mean, module.running_var]
    return b.add("batch_norm", [x], {"eps": module.eps}, weights)


def module_instance_norm(b: Builder, module: nn.Module, x: Value) -> Value:
    """Of nn.InstanceNorm1d, 2d and 3d; one sample without the dimension N too."""
    by_input = module.training or not module.track_running_stats
    statistics = (module.running_mean, module.running_var)
    rest = (module.weight, module.bias, by_input, 0.0, module.eps)
    kinds = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    dims = next(3 + i for i, kind in enumerate(kinds) if isinstance(module, kind))
    shape = shape_of(x.name)
    batched = reshape(b, x, Expression("batched", (shape, dims)))
    return reshape(b, _instance_norm(b, batched, *statistics, *rest), shape)
