"""The smallest network of each family of timm: `./run sbtest.timm`."""

import re
from functools import cache
from typing import Any

import pytest
import timm
import torch
from timm.models import _registry

import ai3
import runners.vision  # noqa: F401  what timm takes of torchvision can be imported then
from test.compare import assert_close

AMPLIFYING = ("efficientnetv2_rw_t",)
"""Networks that, with random weights, make thousands of epsilons of one: torch's own float32 is as
far from the truth. They are compared in float64, by the bounds of float32."""


def families() -> dict[str, list[str]]:
    """The networks of each file of timm whose names begin alike."""
    found: dict[str, list[str]] = {}
    for name in timm.list_models():
        start = re.match("[a-z]+", name)
        family = f"{_registry._model_to_module[name]}/{start.group() if start else name}"
        found.setdefault(family, []).append(name)
    return found


@cache
def smallest(family: str) -> str:
    def size(name: str) -> Any:
        try:
            with torch.device("meta"):
                return sum(p.numel() for p in timm.create_model(name).parameters())
        except Exception:
            return float("inf")

    return min(families()[family][:40], key=size)


@pytest.mark.parametrize("family", families())
def test_agrees_with_torch(family: str) -> None:
    name = smallest(family)
    net = timm.create_model(name).eval()
    if name in AMPLIFYING:
        net = net.double()
    size = net.default_cfg.get("input_size", (3, 224, 224))
    x = torch.randn(2, *size, dtype=next(net.parameters()).dtype)
    model = ai3.swap_backend(net, sample_input_shape=x.shape)
    with torch.no_grad():
        expected = net(x)
    assert_close(model(x).float(), expected.float())
