"""CUDA's driver: the part of cuda.h that launches compiled kernels, through ctypes."""

import ctypes
import threading
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from typing import Any

from ai3.platforms.cuda.libraries import bound

_MAX_DYNAMIC_SHARED = 8
"""CUfunction_attribute"""

STATIC_SHARED = 48 << 10
"""Bytes of shared memory that any kernel may have."""

_p, _i = c_void_p, c_int
_TAKE: dict[str, Sequence[Any]] = {
    "cuDeviceGet": (POINTER(c_int), _i),
    "cuDevicePrimaryCtxRetain": (POINTER(_p), _i),
    "cuCtxGetCurrent": (POINTER(_p),),
    "cuCtxSetCurrent": (_p,),
    "cuModuleLoadData": (POINTER(_p), c_char_p),
    "cuModuleGetFunction": (POINTER(_p), _p, c_char_p),
    "cuFuncSetAttribute": (_p, _i, _i),
    "cuLaunchKernel": (_p, *[c_uint] * 7, _p, _p, _p),
    "cuGetErrorString": (_i, POINTER(c_char_p)),
}
"""The parameters of the functions that are used; all of these return a CUresult."""


class DriverError(RuntimeError):
    """A call of the driver's that failed."""


class Driver:
    """The library. Every call that fails raises DriverError."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.functions = bound("CUDA's driver", library, _TAKE)
        self._local = threading.local()

    def __call__(self, name: str, *arguments: Any) -> None:
        self.check(name, self.functions[name](*arguments))

    def check(self, name: str, status: int) -> None:
        if status:
            words = c_char_p()
            self.functions["cuGetErrorString"](status, byref(words))
            told = (words.value or b"").decode() or f"status {status}"
            raise DriverError(f"CUDA: {name} failed: {told}")

    def function(self, image: bytes, name: str, shared: int) -> int:
        """A kernel of a compiled module, for the device of the current context; it stays loaded."""
        module, found = c_void_p(), c_void_p()
        self("cuModuleLoadData", byref(module), image)
        self("cuModuleGetFunction", byref(found), module, name.encode())
        if shared > STATIC_SHARED:
            self("cuFuncSetAttribute", found, _MAX_DYNAMIC_SHARED, shared)
        assert found.value is not None
        return found.value

    def enter(self, device: int) -> None:
        """Have this thread a context, which one that asked nothing of CUDA yet has not: torch's."""
        if getattr(self._local, "entered", False):
            return
        context, handle = c_void_p(), c_int()
        self("cuCtxGetCurrent", byref(context))
        if not context.value:
            self("cuDeviceGet", byref(handle), device)
            self("cuDevicePrimaryCtxRetain", byref(context), handle)
            self("cuCtxSetCurrent", context)
        self._local.entered = True
