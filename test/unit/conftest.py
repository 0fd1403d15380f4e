from importlib import import_module
from types import ModuleType

import pytest

from ai3 import _core


@pytest.fixture(scope="session", params=_core.levels)
def core(request: pytest.FixtureRequest) -> ModuleType:
    """The compiled core at each instruction set level of this processor, all in one process."""
    return import_module(f"ai3._core.{request.param}")
