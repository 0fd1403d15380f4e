from collections.abc import Iterator

import pytest

from ai3.platforms import register, unregister
from test.platforms import device


@pytest.fixture
def mirror() -> Iterator[device.Mirror]:
    """A platform of devices of its own."""
    with device.available():
        platform = device.Mirror()
        register(platform)
        yield platform
        unregister(platform.name)
