"""`ai3::linear`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ai3.torch.layer import layer_of, linear_gradients
from ai3.torch.operators.bilinear import bilinear


def _fake(input: Tensor, weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    features, wanted = input.shape[-1], weight.shape[1]
    torch._check(
        features == wanted, lambda: f"input must have {wanted} features, but has {features}"
    )
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


def _flops(input: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(input) * weight[0]


linear = bilinear(
    "linear(Tensor input, Tensor weight, Tensor? bias, int? memory, str algorithm) -> Tensor",
    lambda on: lambda x, w, b, config: layer_of(w, on.Linear, config).run(x, w, b),
    _fake,
    linear_gradients,
    _flops,
    channel=-1,
    folds=math.inf,
)
