"""A bound on the time of what cannot be asked to stop, and its progress on a terminal."""

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeUp(BaseException):
    """What a block that took too long is left by; no Exception, as the block may catch those."""


@contextmanager
def limited(title: str, seconds: float | None = None) -> Iterator[None]:
    """Raise TimeUp inside the block when it has run for so many seconds; None for no bound.

    After two seconds a terminal is told how long the block has been running.
    """
    thread, done, lock = threading.get_ident(), threading.Event(), threading.Lock()
    started, live = time.monotonic(), sys.stderr.isatty()

    def watch() -> None:
        shown = False
        while not done.wait(0.5):
            passed = time.monotonic() - started
            if live and passed > 2:
                print(f"\r{title} ... {passed:.0f} s", end="", file=sys.stderr, flush=True)
                shown = True
            with lock:
                # Again and again, should the block have swallowed it.
                if seconds is not None and passed > seconds and not done.is_set():
                    _raise_in(thread, TimeUp)
        if shown:
            print(file=sys.stderr)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            done.set()
            _raise_in(thread, None)
        watcher.join()


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Let a thread raise at its next step of Python; None takes back what it has not raised yet."""
    what = ctypes.c_void_p() if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
