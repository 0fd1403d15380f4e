"""The operation `recurrence` by torch's functions, step by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


def recurrence(
    inputs: Sequence[Tensor], weights: Sequence[Tensor | None], attributes: Mapping[str, Any]
) -> Tensor:
    """See csrc/ops/recurrence/op.hpp."""
    x, *first = inputs
    weight, bias, projection = (*weights, None, None)[:3]
    assert weight is not None
    cell, reverse = attributes["cell"], attributes.get("reverse", False)
    steps, batch, gates = x.shape
    width = gates // {"lstm": 4, "gru": 3}.get(cell, 1)
    h = first[0] if first else x.new_zeros((batch, weight.shape[1]))
    c = first[1] if len(first) > 1 else x.new_zeros((batch, width))
    states: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        a = linear(h, weight, bias)
        if cell == "lstm":
            i, f, g, o = (x[t] + a).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            if projection is not None:
                h = linear(h, projection)
        elif cell == "gru":
            (xr, xz, xn), (ar, az, an) = x[t].chunk(3, 1), a.chunk(3, 1)
            z = (xz + az).sigmoid()
            h = (1 - z) * (xn + (xr + ar).sigmoid() * an).tanh() + z * h
        else:
            h = (x[t] + a).tanh() if cell == "tanh" else (x[t] + a).relu()
        states[t] = h
    if cell != "lstm":
        return torch.stack(states) if steps else x.new_zeros((0, *h.shape))
    beside = width - h.shape[1]
    rows = [torch.nn.functional.pad(state, (0, beside)) for state in states]
    return torch.stack([*rows, c])
