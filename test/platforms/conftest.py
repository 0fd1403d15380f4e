import os
from collections.abc import Iterator

import pytest

# Before Triton is imported: its own functions are interpreted too, or none.
os.environ["TRITON_INTERPRET"] = "1"

import torch

from ai3.platforms import register, unregister
from test.platforms import device

# What differentiates has a queue for each device that there is when a process first does.
with device.available():
    torch.ones(1, requires_grad=True).backward()


@pytest.fixture
def mirror() -> Iterator[device.Mirror]:
    """A platform of devices of its own."""
    with device.available():
        platform = device.Mirror()
        register(platform)
        yield platform
        unregister(platform.name)
