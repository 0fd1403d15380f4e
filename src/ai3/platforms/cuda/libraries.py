"""CUDA's libraries as torch has loaded them: nothing is linked with, and none is loaded twice."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable
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


class Handles:
    """A library's handles: one for each thread and device, on torch's current stream there."""

    def __init__(
        self, create: Callable[[], int], set_stream: Callable[[int, int], Any], stream: Stream
    ) -> None:
        self._create, self._set_stream, self._stream = create, set_stream, stream
        self._local = threading.local()

    def on(self, device: int) -> int:
        """That of a device, which is torch's current one."""
        held: dict[Any, Any] = self._local.__dict__
        found = held.get(device)
        if found is None:
            found = held[device] = [self._create(), -1]
        stream = self._stream(device)
        if stream != found[1]:
            self._set_stream(found[0], stream)
            found[1] = stream
        return int(found[0])
