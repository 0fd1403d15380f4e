"""Kernels in SPIR-V on this computer's processor, by Intel's OpenCL runtime for CPUs.

The runtime is one library with OpenCL's C interface. It reads and writes memory of this process
where it lies: OpenCL's fine-grain system SVM. What it compiles a kernel to is kept in ai3's cache.
"""

import ctypes
import hashlib
import os
from collections.abc import Sequence
from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from ai3.cache import folder
from ai3.platforms.sycl import runtime
from ai3.platforms.sycl.kernel import KERNELS
from ai3.platforms.sycl.runtime import PACKAGE

_CPU = c_ulong(2)
_UNITS, _VERSION, _DRIVER, _SVM = 0x1002, 0x102F, 0x102D, 0x1053
_FINE_GRAIN_SYSTEM = 8
_BY_COUNTS = 0x1087
_BINARY_SIZES, _BINARIES, _BUILD_LOG = 0x1165, 0x1166, 0x1183


class OpenCLError(RuntimeError):
    """A call of the runtime's failed."""


class Device:
    """The processor, or some units of it."""

    def __init__(self, cl: CDLL, handle: c_void_p, process: int) -> None:
        """`process` is the one in which the runtime was started."""
        self.cl, self.handle, self._process = cl, handle, process
        error = c_int()
        self.context = c_void_p(
            cl.clCreateContext(None, 1, byref(handle), None, None, byref(error))
        )
        _check("clCreateContext", error.value)
        self.queue = c_void_p(
            cl.clCreateCommandQueueWithProperties(self.context, handle, None, byref(error))
        )
        _check("clCreateCommandQueueWithProperties", error.value)
        self._programs: dict[str, c_void_p] = {}
        self._lock = Lock()

    def part(self, threads: int) -> "Device":
        properties = (ctypes.c_ssize_t * 4)(_BY_COUNTS, threads, 0, 0)
        part, count = c_void_p(), c_uint()
        code = self.cl.clCreateSubDevices(self.handle, properties, 1, byref(part), byref(count))
        _check("clCreateSubDevices", code)
        return Device(self.cl, part, self._process)

    def check_process(self) -> None:
        if self._process != os.getpid():
            raise OpenCLError(
                "the OpenCL runtime was started before this process was forked and does not run "
                "in it: start processes by 'spawn', or choose an algorithm that is not SYCL's"
            )

    def kernel(self, source: str, name: str) -> "Kernel":
        """A kernel of `kernels/<source>.spv`."""
        with self._lock:
            if source not in self._programs:
                self._programs[source] = self._program(KERNELS / f"{source}.spv")
        error = c_int()
        made = self.cl.clCreateKernel(
            self._programs[source], f"__sycl_kernel_{name}".encode(), byref(error)
        )
        _check("clCreateKernel", error.value)
        return Kernel(self, c_void_p(made), name)

    def text(self, what: int) -> str:
        size = c_size_t()
        self.cl.clGetDeviceInfo(self.handle, c_uint(what), c_size_t(0), None, byref(size))
        value = ctypes.create_string_buffer(size.value)
        self.cl.clGetDeviceInfo(self.handle, c_uint(what), size, value, None)
        return value.value.decode(errors="replace")

    def number(self, what: int) -> int:
        value = c_ulong()
        self.cl.clGetDeviceInfo(self.handle, c_uint(what), c_size_t(8), byref(value), None)
        return value.value

    def _program(self, path: Path) -> c_void_p:
        """Compiled, or as the cache has it."""
        il = path.read_bytes()
        settings = [v for k, v in sorted(os.environ.items()) if k.startswith("CL_CONFIG")]
        state = [self.text(_VERSION), self.text(_DRIVER), _flags(), *settings]
        key = hashlib.sha256(il + "\0".join(state).encode()).hexdigest()[:32]
        kept = folder() / "sycl" / f"{key}.bin"
        if (binary := _read(kept)) and (program := self._load(binary)):
            return program
        program = self._compile(il)
        _write(kept, self._binary(program))
        return program

    def _compile(self, il: bytes) -> c_void_p:
        error = c_int()
        program = c_void_p(
            self.cl.clCreateProgramWithIL(self.context, il, c_size_t(len(il)), byref(error))
        )
        _check("clCreateProgramWithIL", error.value)
        self._build(program)
        return program

    def _load(self, binary: bytes) -> c_void_p | None:
        error, status = c_int(), c_int()
        program = c_void_p(
            self.cl.clCreateProgramWithBinary(
                self.context,
                1,
                byref(self.handle),
                byref(c_size_t(len(binary))),
                byref(c_char_p(binary)),
                byref(status),
                byref(error),
            )
        )
        if error.value or status.value:
            return None
        self._build(program)
        return program

    def _build(self, program: c_void_p) -> None:
        if code := self.cl.clBuildProgram(program, 1, byref(self.handle), None, None, None):
            log = ctypes.create_string_buffer(4096)
            self.cl.clGetProgramBuildInfo(
                program, self.handle, c_uint(_BUILD_LOG), c_size_t(4096), log, None
            )
            _check("clBuildProgram", code, log.value.decode(errors="replace"))

    def _binary(self, program: c_void_p) -> bytes:
        size = c_size_t()
        self.cl.clGetProgramInfo(program, c_uint(_BINARY_SIZES), c_size_t(8), byref(size), None)
        binary = ctypes.create_string_buffer(size.value)
        pointer = ctypes.cast(binary, c_void_p)
        self.cl.clGetProgramInfo(program, c_uint(_BINARIES), c_size_t(8), byref(pointer), None)
        return binary.raw


class Kernel:
    """One kernel with arguments of its own. Arguments are arrays, None for an absent one, and
    values of ctypes."""

    def __init__(self, device: Device, handle: c_void_p, name: str) -> None:
        self.name = name
        self._device, self._handle, self._lock = device, handle, Lock()
        self._release = device.cl.clReleaseKernel

    def __call__(self, groups: Sequence[int], size: Sequence[int], *arguments: Any) -> None:
        """Runs `groups` work-groups of `size` work-items, first the dimension whose neighbours lie
        apart most, and waits for them."""
        cl, device = self._device.cl, self._device
        device.check_process()
        count = len(groups)
        totals = [g * s for g, s in zip(groups, size, strict=True)]
        total = (c_size_t * count)(*totals[::-1])
        local = (c_size_t * count)(*size[::-1])
        with self._lock:
            for i, argument in enumerate(arguments):
                if argument is None or hasattr(argument, "ctypes"):
                    address = None if argument is None else argument.ctypes.data
                    code = cl.clSetKernelArgSVMPointer(self._handle, i, c_void_p(address))
                else:
                    length = c_size_t(ctypes.sizeof(argument))
                    code = cl.clSetKernelArg(self._handle, i, length, byref(argument))
                _check("clSetKernelArg", code)
            code = cl.clEnqueueNDRangeKernel(
                device.queue, self._handle, count, None, total, local, 0, None, None
            )
            _check("clEnqueueNDRangeKernel", code)
        _check("clFinish", cl.clFinish(device.queue))

    def __del__(self) -> None:
        self._release(self._handle)


@cache
def device(threads: int) -> Device:
    """The processor with at most so many threads. Raises OpenCLError where the runtime does not
    work."""
    whole = _processor()
    whole.check_process()
    return whole if threads >= whole.number(_UNITS) else whole.part(threads)


@cache
def _processor() -> Device:
    try:
        cl = CDLL(str(runtime.library()))
    except OSError as error:
        raise OpenCLError(f"{PACKAGE} cannot be loaded: {error}") from None
    for name in (
        *("clCreateContext", "clCreateCommandQueueWithProperties", "clCreateKernel"),
        *("clCreateProgramWithIL", "clCreateProgramWithBinary"),
    ):
        if not hasattr(cl, name):
            raise OpenCLError(f"{PACKAGE} cannot be loaded: {cl._name} has no {name}")
        getattr(cl, name).restype = c_void_p
    platform, found = c_void_p(), c_void_p()
    _check("clGetPlatformIDs", cl.clGetPlatformIDs(1, byref(platform), None))
    _check("clGetDeviceIDs", cl.clGetDeviceIDs(platform, _CPU, 1, byref(found), None))
    made = Device(cl, found, os.getpid())
    if not made.number(_SVM) & _FINE_GRAIN_SYSTEM:
        raise OpenCLError(f"{PACKAGE} cannot use this process's memory as it is")
    return made


def _check(call: str, code: int, more: str = "") -> None:
    if code:
        raise OpenCLError(f"{PACKAGE}: {call} failed with error {code}{more and ': ' + more}")


@cache
def _flags() -> str:
    """Of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _read(path: Path) -> bytes:
    """What `_write` wrote, or nothing."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    digest, binary = content[:32], content[32:]
    return binary if hashlib.sha256(binary).digest() == digest else b""


def _write(path: Path, binary: bytes) -> None:
    """Whole or not at all; a cache that cannot be written is none."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(binary).digest() + binary)
        part.replace(path)
    except OSError:
        pass
