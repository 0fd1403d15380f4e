"""Measured times of platforms' algorithms, in the file in which ai3.tuning keeps the CPU's."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ai3 import cache
from ai3.platforms.platform import Platform
from ai3.problem import Problem
from ai3.tuning import NAME

if TYPE_CHECKING:
    from ai3.tuning.database import Machine, Times

_FIELDS = (
    *("N", "IC", "IH", "IW", "OC", "KH", "KW", "stride_h", "stride_w", "pad_top", "pad_bottom"),
    *("pad_left", "pad_right", "dilation_h", "dilation_w", "groups", "padding_mode"),
    "rows",
)

_times: "dict[tuple[Path, Machine], Times]" = {}


def seconds_of(platform: Platform, problem: Problem) -> dict[str, float]:
    """What algorithms took for a problem on a device like the current one; empty, at the price of a
    look, where nothing was measured."""
    times = _stored(platform)
    if times is None:
        return {}
    return {row.algorithm: row.seconds for row in times.rows(key_of(platform, problem))}


def keep(platform: Platform, problem: Problem, seconds: Mapping[str, float], samples: int) -> None:
    """Have "default" go by these from now on, in every process. Raises OSError where the cache
    cannot be written."""
    from ai3.machine import APART
    from ai3.tuning import database

    key, machine = key_of(platform, problem), machine_of(platform)
    database.write_of(
        {
            machine: [
                database.Row(key, APART, name, problem.op, 1, took, samples)
                for name, took in seconds.items()
            ]
        }
    )
    _times.clear()


def key_of(platform: Platform, problem: Problem) -> str:
    """The problem without what follows it, a sum or an activation, and torch's settings."""
    sizes = problem._fields
    told = ", ".join(f"{name}={sizes[name]}" for name in _FIELDS if name in sizes)
    first = problem.inputs[0] if problem.op == "matmul" else ""
    more = f"{first} {problem.inputs[-1]} " if first else ""
    layout, settings = problem.output_layout, platform.settings()
    return f"{platform.name} {problem.op} {more}{told}, {problem.dtype} {layout} {settings}"


def machine_of(platform: Platform) -> "Machine":
    from ai3.tuning.database import Machine

    return Machine(platform.name_of(), platform.name, platform.version())


def _stored(platform: Platform) -> "Times | None":
    folder = cache.folder()
    if not (folder / NAME).exists():
        return None
    from ai3.tuning import database

    machine = machine_of(platform)
    found = _times.get((folder, machine)) or database.opened(machine)
    if found is not None:
        _times[folder, machine] = found
    return found
