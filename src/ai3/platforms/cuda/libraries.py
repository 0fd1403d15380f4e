"""CUDA's libraries as torch has loaded them: nothing is linked with, and none is loaded twice."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_NOW_IF_LOADED = getattr(os, "RTLD_NOLOAD", 0) | getattr(os, "RTLD_NOW", 2)

Stream = Callable[[int], int]
"""By a device's number the address of torch's current stream there."""


def loaded(what: str, names: Iterable[str]) -> ctypes.CDLL:
    """The first of these files that this process has loaded. Raises OSError where it has none."""
    names = list(names)
    for name in names:
        try:
            return ctypes.CDLL(name, mode=_NOW_IF_LOADED)
        except OSError:
            continue
    raise OSError(f"torch has not loaded {what} ({' or '.join(names)})")


def bound(
    what: str, library: ctypes.CDLL, take: Mapping[str, Sequence[Any]]
) -> dict[str, Callable[..., int]]:
    """A library's functions by their names, with what each takes; all return a status. Raises
    OSError where one is missing."""
    functions: dict[str, Callable[..., int]] = {}
    for name, taken in take.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise OSError(f"this {what} has no {name}") from None
        function.argtypes, function.restype = list(taken), ctypes.c_int
        functions[name] = function
    return functions


class Handles:
    """A library's handles: one for each thread and device, on torch's current stream there. Those
    of threads that have ended serve others."""

    def __init__(
        self, create: Callable[[], int], set_stream: Callable[[int, int], Any], stream: Stream
    ) -> None:
        self._create, self._set_stream, self._stream = create, set_stream, stream
        self._local = threading.local()
        self._free: dict[int, list[_Handle]] = {}

    def on(self, device: int) -> int:
        """That of a device, which is torch's current one."""
        lent: dict[Any, _Lent] = self._local.__dict__
        found = lent.get(device)
        if found is None:
            free = self._free.setdefault(device, [])
            try:
                handle = free.pop()
            except IndexError:
                handle = _Handle(self._create())
            found = lent[device] = _Lent(handle, free)
        handle = found.handle
        stream = self._stream(device)
        if stream != handle.stream:
            self._set_stream(handle.address, stream)
            handle.stream = stream
        return handle.address


class _Handle:
    def __init__(self, address: int) -> None:
        self.address, self.stream = address, -1


class _Lent:
    """A thread's own handle, given back when the thread ends."""

    def __init__(self, handle: _Handle, free: list[_Handle]) -> None:
        self.handle, self._free = handle, free

    def __del__(self) -> None:
        self._free.append(self.handle)
