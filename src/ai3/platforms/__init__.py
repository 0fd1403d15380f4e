"""Where networks run beside this process's CPU. A folder of this package is a platform: importing
it registers that, and nothing else in ai3 knows its libraries."""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from ai3.errors import unknown_name
from ai3.ops import ON_CPU
from ai3.platforms.platform import CHOOSING, Platform

_platforms: dict[str, Platform] = {}
_supported: dict[str, list[str]] = {}


class PlatformRow(NamedTuple):
    """A platform or one of its libraries; `reason` says why it is not there, empty where it is."""

    name: str
    available: bool
    reason: str


def platforms() -> list[PlatformRow]:
    """What networks can run on, "cpu" first, and the libraries of each, with the reason why one
    that cannot be used cannot. Imports torch, where there is one."""
    missing = {"cpu": ""}
    for platform in registered():
        missing |= {platform.name: platform.missing(), **platform.libraries()}
    return [PlatformRow(name, not reason, reason) for name, reason in missing.items()]


def is_available(*names: str) -> bool:
    """Whether all of these platforms and libraries can be used."""
    rows = {row.name: row.available for row in platforms()}
    return all(rows.get(name, False) for name in names)


def register(platform: Platform) -> None:
    _platforms[platform.name] = platform
    names_changed()


def unregister(name: str) -> None:
    del _platforms[name]
    names_changed()


def registered() -> list[Platform]:
    """All of them, there or not."""
    _load()
    return list(_platforms.values())


def platform_of(device: str) -> Platform | None:
    """That of a type of devices, as torch names it."""
    return next((p for p in registered() if p.device == device), None)


def devices_of(op: str, algorithm: str) -> list[str]:
    """The types of devices for which a platform has an algorithm of this name."""
    return [p.device for p in registered() if algorithm in p.algorithms(op)]


def places_of(op: str, algorithm: str) -> list[str]:
    """The platforms that have an algorithm of this name, "cpu" among them; those that choose are on
    all that have any."""
    places = ["cpu"] if algorithm in ON_CPU[op] else []
    for platform in registered():
        known = platform.algorithms(op)
        if algorithm in known or (algorithm in CHOOSING and known):
            places.append(platform.name)
    return places


def names(op: str) -> list[str]:
    """The algorithms of an operation on all platforms."""
    return list(dict.fromkeys(name for p in registered() for name in p.algorithms(op)))


def supported() -> dict[str, list[str]]:
    """The operations and the algorithms of each, on this processor or any platform, "default" last:
    always the same dictionary. The first call imports what platforms compute by."""
    if not _supported:
        _list_supported()
    return _supported


def names_changed() -> None:
    """To be told when an algorithm was added or removed."""
    if _supported:
        _list_supported()


def _list_supported() -> None:
    for op, own in ON_CPU.items():
        known = dict.fromkeys([*own, *names(op)])
        known.pop("default", None)
        _supported[op] = [*known, "default"]


def no_such(op: str, name: str, device: str) -> str:
    """Why an algorithm of a name cannot do anything on a type of devices for which there is no such
    one: where there is, as a clause."""
    places = devices_of(op, name)
    if name in ON_CPU.get(op, ()):
        places = ["cpu", *places]
    where = " and ".join(places)
    return f"it runs on {where}, not on {device}" if where else f"{device} has no such algorithm"


def why_not_on_cpu(op: str, name: str) -> str:
    """Why this processor has no algorithm of a name; empty where it has."""
    return "" if name in ON_CPU[op] else no_such(op, name, "cpu")


def algorithms_on(device: str, op: str) -> list[str]:
    """The algorithms of an operation that a type of devices has, those that choose among
    them."""
    if device == "cpu":
        return ON_CPU[op]
    platform = platform_of(device)
    return [*CHOOSING, *platform.algorithms(op)] if platform is not None else []


def why_not_on(device: str, op: str) -> str:
    """Why nothing runs an operation on a type of devices, as a clause; empty where something
    does."""
    platform = platform_of(device)
    if platform is None:
        return "where nothing of ai3 runs"
    if reason := platform.missing():
        return f"and {platform.name} cannot be used: {reason}"
    return "" if platform.algorithms(op) else f"for which ai3 has no algorithm of {op}"


def was_brought(op: str, name: str) -> bool:
    """Whether users added an algorithm of this name to a platform."""
    return any(platform.has_brought(op, name) for platform in _platforms.values())


def add_algorithm(platform: str, op: str, name: str, maker: Any) -> None:
    """Let a class or function, as `ai3.algorithm` takes it, be an algorithm for tensors on the
    platform's devices; the same name again takes the earlier one's place.

    Raises ValueError for a platform that there is not or the name of one of its own algorithms.
    """
    _named(platform).add_brought(op, name, maker)
    names_changed()


def remove_algorithm(platform: str, op: str, name: str) -> None:
    """Take back what `add_algorithm` added. Raises ValueError where it added none."""
    _named(platform).remove_brought(op, name)
    names_changed()


def _named(name: str) -> Platform:
    _load()
    if name not in _platforms:
        raise unknown_name("platform", name, _platforms)
    return _platforms[name]


@cache
def _load() -> None:
    for found in pkgutil.iter_modules(__path__):
        if found.ispkg:
            import_module(f"{__name__}.{found.name}")
