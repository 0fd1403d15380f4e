"""The compiled core, in the best copy that this processor can run.

The whole core is compiled once for each instruction set level, into one extension module each, so
that no inline function of one level can end up in another. `AI3_ISA` forces a lower level.
"""

import os
from importlib import import_module
from importlib.util import find_spec

from ai3._core import cpu

levels: list[str] = [name for name in cpu.levels() if find_spec(f"ai3._core.{name}")]


def _choose() -> str:
    forced = os.environ.get("AI3_ISA")
    if not forced:
        return levels[0]
    if forced not in levels:
        raise ImportError(f"AI3_ISA is {forced!r}, but this machine can run {', '.join(levels)}")
    return forced


_module = import_module(f"ai3._core.{_choose()}")
globals().update({name: getattr(_module, name) for name in dir(_module) if name[0] != "_"})
