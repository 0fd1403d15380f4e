"""Every classification and segmentation network of torchvision: `./run sbtest.all`.

Not among the tests that run by themselves, as it takes minutes and gigabytes of weights.
"""

import gc
from typing import Any

import pytest
import torch

import ai3
from runners import networks
from runners.vision import models
from test.compare import assert_close

FIXED = {"vit": 224, "maxvit": 224, "inception": 96}
"""Sizes of images, by the start of a name; others take small ones."""

AMPLIFYING = ("efficientnet_v2_l",)
"""Networks that, with random weights, make thousands of epsilons of one: torch's own float32 is as
far from the truth. They are compared in float64, by the bounds of float32."""


def names() -> list[str]:
    import torchvision

    return [
        *models.list_models(module=torchvision.models),
        *models.list_models(module=models.segmentation),
    ]


def compare(actual: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            compare(actual[key], value)
    else:
        assert actual.dtype == expected.dtype
        assert_close(actual.float(), expected.float())


@pytest.mark.parametrize("name", names())
def test_agrees_with_torch(name: str) -> None:
    size = next((size for start, size in FIXED.items() if name.startswith(start)), 64)
    module = networks.from_torchvision(name).eval()
    networks.randomize(module, (1, 3, size, size))
    shapes = [(1, 3, size, size)]
    if sum(parameter.numel() for parameter in module.parameters()) < 50e6:
        shapes.append((2, 3, size, size) if size == 224 else (2, 3, size + 32, size + 64))
    dtype = torch.float64 if name in AMPLIFYING else torch.float32
    module.to(dtype)
    samples = [torch.randn(shape, dtype=dtype) for shape in shapes]
    with torch.inference_mode():
        expected = [module(sample) for sample in samples]
    model = ai3.swap_backend(module, dtype=dtype)
    del module
    gc.collect()
    for sample, wanted in zip(samples, expected, strict=True):
        compare(model(sample), wanted)
