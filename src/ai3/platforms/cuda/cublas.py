"""cuBLASLt's products of matrices: the part of cublasLt.h that is used, through ctypes."""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import (
    POINTER,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any

from ai3.platforms.cuda.launch import ALIGNMENT
from ai3.platforms.cuda.libraries import Stream, bound

DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
"""cudaDataType_t"""
_COMPUTE_32F, _COMPUTE_32F_FAST_TF32, _COMPUTE_64F = 68, 77, 70
_TRANSA, _EPILOGUE, _BIAS_POINTER = 3, 7, 8
_BATCH_COUNT, _BATCH_STRIDE = 5, 6
_MAX_WORKSPACE, _MIN_ALIGNMENTS = 1, (5, 6, 7, 8)
_TRANSPOSED = 1
_NOT_SUPPORTED = 15

EPILOGUES = {
    ("none", False): 1,
    ("none", True): 4,
    ("relu", False): 2,
    ("relu", True): 6,
    ("gelu_tanh", False): 32,
    ("gelu_tanh", True): 36,
}
"""cublasLtEpilogue_t, by activation and whether there is a bias."""

WORKSPACE = 32 << 20
"""Bytes that an algorithm may take, what NVIDIA advises for its newest GPUs."""

_STATUSES = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED",
    3: "CUBLAS_STATUS_ALLOC_FAILED",
    7: "CUBLAS_STATUS_INVALID_VALUE",
    8: "CUBLAS_STATUS_ARCH_MISMATCH",
    13: "CUBLAS_STATUS_EXECUTION_FAILED",
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    15: "CUBLAS_STATUS_NOT_SUPPORTED",
}


class CublasError(RuntimeError):
    def __init__(self, function: str, status: int) -> None:
        words = _STATUSES.get(status, f"status {status}")
        super().__init__(f"cuBLASLt: {function} failed: {words}")


class _Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algo", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


_p = c_void_p
_TAKE: dict[str, Sequence[Any]] = {
    "cublasLtCreate": (POINTER(c_void_p),),
    "cublasLtMatmulDescCreate": (POINTER(c_void_p), c_int, c_int),
    "cublasLtMatmulDescSetAttribute": (_p, c_int, _p, c_size_t),
    "cublasLtMatmulDescDestroy": (_p,),
    "cublasLtMatrixLayoutCreate": (POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": (_p, c_int, _p, c_size_t),
    "cublasLtMatrixLayoutDestroy": (_p,),
    "cublasLtMatmulPreferenceCreate": (POINTER(c_void_p),),
    "cublasLtMatmulPreferenceSetAttribute": (_p, c_int, _p, c_size_t),
    "cublasLtMatmulPreferenceDestroy": (_p,),
    "cublasLtMatmulAlgoGetHeuristic": (*[_p] * 7, c_int, POINTER(_Heuristic), POINTER(c_int)),
    "cublasLtMatmul": (*[_p] * 12, _p, _p, c_size_t, _p),
}


class CublasLt:
    """The library. Every call that fails raises CublasError."""

    def __init__(self, library: ctypes.CDLL, stream: Stream) -> None:
        self.stream = stream
        self.functions = bound("cuBLASLt", library, _TAKE)
        self._handles: dict[int, int] = {}

    def __call__(self, name: str, *arguments: Any) -> None:
        if status := self.functions[name](*arguments):
            raise CublasError(name, status)

    def handle(self, device: int) -> int:
        """That of a device, which is torch's current one; any thread may use it."""
        if device not in self._handles:
            made = c_void_p()
            self("cublasLtCreate", ctypes.byref(made))
            assert made.value is not None
            self._handles[device] = made.value
        return self._handles[device]

    def object(self, kind: str, *values: Any) -> "Object":
        return Object(self, kind, values)


class Object:
    """A descriptor, layout or preference, `address`; it goes with this object."""

    def __init__(self, library: CublasLt, kind: str, values: Sequence[Any]) -> None:
        made = c_void_p()
        library(f"cublasLt{kind}Create", ctypes.byref(made), *values)
        self.address, self._library, self._kind = made.value, library, kind
        weakref.finalize(self, library.functions[f"cublasLt{kind}Destroy"], made.value)

    def set(self, attribute: int, value: Any) -> None:
        size = ctypes.sizeof(value)
        name = f"cublasLt{self._kind}SetAttribute"
        self._library(name, self.address, attribute, ctypes.byref(value), size)


@dataclass(frozen=True)
class Shapes:
    """Of d = a * b by columns, (m, k) by (k, n): `a` lies transposed, or not; `batch` of these,
    whose matrices a, b and d lie `strides` elements apart."""

    m: int
    n: int
    k: int
    transposed: bool = False
    batch: int = 1
    strides: tuple[int, int, int] = (0, 0, 0)


class Product:
    """Descriptors of a product, and the algorithm that cuBLASLt chooses for it, for matrices whose
    addresses are multiples of ALIGNMENT and a workspace of at most so many bytes. `bias`, where
    there is one, is the address of m numbers. Raises CublasError where there is no algorithm."""

    def __init__(
        self,
        library: CublasLt,
        device: int,
        shapes: Shapes,
        dtype: str,
        tf32: bool,
        epilogue: int,
        bias: int | None,
        memory: int,
    ) -> None:
        self.library, self.shapes = library, shapes
        number, double = DTYPES[dtype], dtype == "float64"
        rounded = dtype == "float32" and tf32
        compute = _COMPUTE_64F if double else _COMPUTE_32F_FAST_TF32 if rounded else _COMPUTE_32F
        self._operation = library.object(
            "MatmulDesc", compute, DTYPES["float64" if double else "float32"]
        )
        if shapes.transposed:
            self._operation.set(_TRANSA, c_int32(_TRANSPOSED))
        self._operation.set(_EPILOGUE, c_int32(epilogue))
        if bias is not None:
            self._operation.set(_BIAS_POINTER, c_void_p(bias))
        m, n, k = shapes.m, shapes.n, shapes.k
        extents = ((k, m) if shapes.transposed else (m, k), (k, n), (m, n))
        self._layouts = [
            library.object("MatrixLayout", number, *extent, extent[0]) for extent in extents
        ]
        for layout, stride in zip(self._layouts, shapes.strides, strict=True):
            if shapes.batch > 1:
                layout.set(_BATCH_COUNT, c_int32(shapes.batch))
                layout.set(_BATCH_STRIDE, c_int64(stride))
        scalar: Any = c_double if double else c_float
        self._scalars = (scalar(1), scalar(0))
        preference = library.object("MatmulPreference")
        preference.set(_MAX_WORKSPACE, c_size_t(memory))
        for attribute in _MIN_ALIGNMENTS:
            preference.set(attribute, c_uint32(ALIGNMENT))
        handle = library.handle(device)
        self._found, count = (_Heuristic * 1)(), c_int()
        a, b, d = (each.address for each in self._layouts)
        operation = self._operation.address
        library(
            "cublasLtMatmulAlgoGetHeuristic",
            *(handle, operation, a, b, d, d, preference.address, 1, self._found),
            ctypes.byref(count),
        )
        chosen = self._found[0]
        if count.value < 1 or chosen.state:
            raise CublasError("cublasLtMatmulAlgoGetHeuristic", chosen.state or _NOT_SUPPORTED)
        self.workspace = int(chosen.workspace)
        one, zero = (ctypes.addressof(each) for each in self._scalars)
        algorithm = ctypes.addressof(chosen.algo)
        call, stream = library.functions["cublasLtMatmul"], library.stream

        def run(first: int, second: int, result: int, memory: int | None) -> None:
            status = call(
                *(handle, operation, one, first, a, second, b, zero, result, d, result, d),
                *(algorithm, memory, self.workspace, stream(device)),
            )
            if status:
                raise CublasError("cublasLtMatmul", status)

        self.run = run
        """Of the addresses of a, b, d and the workspace."""
