"""Normalisation."""

from typing import Any

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
    return b.add("batchnorm2d", [x], {"eps": eps}, [weight, bias, running_mean, running_var])


@lowers("aten.batch_norm")
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
