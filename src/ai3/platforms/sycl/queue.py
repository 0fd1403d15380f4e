"""Kernels in SPIR-V on a queue of SYCL's that torch has made, by `queue.cpp`.

That is compiled when it is first needed, by the C++ compiler of this computer, for the SYCL runtime
that is installed: programs of another major version of it would not fit.
"""

import ctypes
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ai3 import compiled
from ai3.cache import folder
from ai3.errors import CompileError
from ai3.platforms.sycl.kernel import KERNELS

PACKAGE = "intel-sycl-rt"
SOURCE = Path(__file__).with_suffix(".cpp")


class QueueError(RuntimeError):
    """SYCL did not do what it was asked."""


class Queue:
    """Runs kernels on the queue whose address `current` gives at each call."""

    def __init__(self, current: Callable[[], int]) -> None:
        self._current, self._library = current, library()

    def kernel(self, source: str, name: str) -> Callable[..., None]:
        module = (KERNELS / f"{source}.spv").read_bytes()
        handle = c_void_p()
        _check(
            self._library.ai3_sycl_kernel(
                c_void_p(self._current()),
                module,
                c_size_t(len(module)),
                f"__sycl_kernel_{name}".encode(),
                byref(handle),
            )
        )

        def launch(groups: Sequence[int], size: Sequence[int], *arguments: Any) -> None:
            self._launch(handle, groups, size, arguments)

        return launch

    def _launch(
        self, kernel: c_void_p, groups: Sequence[int], size: Sequence[int], given: Sequence[Any]
    ) -> None:
        dimensions, count = len(groups), len(given)
        places, sizes = (c_void_p * count)(), (c_size_t * count)()
        for i, argument in enumerate(given):
            if argument is None or hasattr(argument, "data_ptr"):
                places[i] = None if argument is None else argument.data_ptr()
            else:
                places[i], sizes[i] = ctypes.addressof(argument), ctypes.sizeof(argument)
        total = (c_size_t * dimensions)(*(g * s for g, s in zip(groups, size, strict=True)))
        local = (c_size_t * dimensions)(*size)
        queue = c_void_p(self._current())
        _check(
            self._library.ai3_sycl_launch(
                queue, kernel, c_int(dimensions), total, local, c_int(count), places, sizes
            )
        )


@cache
def missing() -> str:
    """Why there is no such library, as a clause; empty where it is or can be made."""
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        return f"{PACKAGE} is not installed, with whose headers the kernels' launcher is compiled"
    try:
        compiled.compiler()
    except CompileError as error:
        return str(error)
    return ""


@cache
def library() -> CDLL:
    """The compiled `queue.cpp`. Raises QueueError."""
    if why := missing():
        raise QueueError(why)
    found = distribution(PACKAGE)
    names = [f for f in found.files or () if re.fullmatch(r"libsycl\.so\.\d+", f.name)]
    if not names:
        raise QueueError(f"libsycl.so of {PACKAGE} is not there")
    runtime = Path(str(found.locate_file(names[0]))).absolute()
    lib = Path(os.path.normpath(runtime.parent))
    command = (
        *compiled.compiler(),
        *("-std=c++20", "-O1", "-fPIC", "-shared", "-w", str(SOURCE)),
        *(f"-I{lib.parent / 'include'}", str(runtime), f"-Wl,-rpath,{lib}"),
    )
    key = compiled.digest((repr(command), found.version, SOURCE.read_text()))
    target = folder() / "sycl" / f"{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as made:
            part = Path(made) / target.name
            if said := compiled.run((*command, "-o", str(part))):
                raise QueueError(f"{SOURCE.name} cannot be compiled for {PACKAGE}: {said}")
            part.replace(target)
    try:
        loaded = CDLL(str(target))
    except OSError as error:
        raise QueueError(f"{PACKAGE} cannot be loaded: {error}") from None
    loaded.ai3_sycl_kernel.restype = loaded.ai3_sycl_launch.restype = c_char_p
    return loaded


def _check(said: bytes | None) -> None:
    if said is not None:
        raise QueueError(f"SYCL: {said.decode(errors='replace')}")
