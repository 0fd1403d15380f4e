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


@pytest.fixture(autouse=True)
def settable(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's settings can be changed, which importing torch.testing._internal forbids from then on
    in the whole process."""
    settings = torch.backends.flags_frozen.__globals__  # `torch.backends` stands before the module
    monkeypatch.setitem(settings, "__allow_nonbracketed_mutation_flag", True)
