"""Linear layers by cuBLASLt, bias and activation in the same call: the part of cublasLt.h that is
used, through ctypes."""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from math import inf
from typing import Any

from ai3.platforms import epilogue
from ai3.platforms.cuda.libraries import Stream
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
"""cudaDataType_t"""
_COMPUTE_32F, _COMPUTE_32F_FAST_TF32, _COMPUTE_64F = 68, 77, 70
_TRANSA, _EPILOGUE, _BIAS_POINTER = 3, 7, 8
_MAX_WORKSPACE = 1
_TRANSPOSED = 1

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
        self.functions: dict[str, Any] = {}
        for name, taken in _TAKE.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise OSError(f"this cuBLASLt has no {name}") from None
            function.argtypes, function.restype = list(taken), c_int
            self.functions[name] = function
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


class Linear(Algorithm):
    """output (rows, OC) = input (rows, IC) * weight (OC, IC)^T, as cuBLASLt has it by columns:
    output^T = (weight^T)^T * input^T."""

    name = "cublas"

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def refusal(self, p: Problem) -> str:
        known = p.dtype in DTYPES
        return "" if known else f"cuBLASLt computes {', '.join(DTYPES)}, not {p.dtype}"

    def probe(self, p: Problem) -> str:
        try:
            _Product(self._platform, p, None)
        except (CublasError, OSError) as error:
            return str(error)
        return ""

    def cost(self, p: Problem) -> float:
        try:
            _ = self._platform.cublas
        except OSError:
            return inf
        return 1.0

    def workspace_bytes(self, p: Problem) -> int:
        limit = self._platform.workspace_limit
        return WORKSPACE if limit is None else min(WORKSPACE, limit)

    def fuses(self, p: Problem) -> bool:
        return (epilogue.activation_of(p), False) in EPILOGUES and not epilogue.has_residual(p)

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        weight, bias = (*weights, None)[:2]
        product = _Product(self._platform, p, bias)
        library, device = product.library, self._platform.current_device()
        call, handle, stream = library.functions["cublasLtMatmul"], product.handle, library.stream
        size = product.found.workspace

        def run(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
            a, b, d = (each.address for each in product.layouts)
            y = output.data_ptr()
            memory = None if workspace is None else workspace.data_ptr()
            status = call(
                *(handle, product.operation.address, product.one, weight.data_ptr(), a),
                *(inputs[0].data_ptr(), b, product.zero, y, d, y, d),
                *(product.algorithm, memory, size, stream(device)),
            )
            if status:
                raise CublasError("cublasLtMatmul", status)

        return run


class _Product:
    """One problem's descriptors and the algorithm that cuBLASLt chose."""

    def __init__(self, platform: Any, p: Problem, bias: Any) -> None:
        self.library = library = platform.cublas
        _, tf32, _ = platform.settings()
        dtype, double = DTYPES[p.dtype], p.dtype == "float64"
        rounded = p.dtype == "float32" and tf32
        compute = _COMPUTE_64F if double else _COMPUTE_32F_FAST_TF32 if rounded else _COMPUTE_32F
        scale = DTYPES["float64" if double else "float32"]
        self.operation = library.object("MatmulDesc", compute, scale)
        self.operation.set(_TRANSA, c_int32(_TRANSPOSED))
        activation = epilogue.activation_of(p)
        self.operation.set(_EPILOGUE, c_int32(EPILOGUES[activation, p.has_bias]))
        self._bias = bias
        if p.has_bias:
            address = 16 if bias is None else bias.data_ptr()  # aligned, where it is not yet known
            self.operation.set(_BIAS_POINTER, c_void_p(address))
        rows, ic, oc = p.rows, p.IC, p.OC
        self.layouts = [
            library.object("MatrixLayout", dtype, *shape)
            for shape in ((ic, oc, ic), (ic, rows, ic), (oc, rows, oc))
        ]
        scalar: Any = c_double if double else c_float
        self._scalars = (scalar(1), scalar(0))
        self.one, self.zero = (ctypes.addressof(s) for s in self._scalars)
        preference = library.object("MatmulPreference")
        limit = platform.workspace_limit
        most = WORKSPACE if limit is None else min(WORKSPACE, limit)
        preference.set(_MAX_WORKSPACE, c_size_t(most))
        self.handle = library.handle(platform.current_device())
        found, count = (_Heuristic * 1)(), c_int()
        a, b, d = (each.address for each in self.layouts)
        library(
            "cublasLtMatmulAlgoGetHeuristic",
            *(self.handle, self.operation.address, a, b, d, d, preference.address),
            *(1, found, ctypes.byref(count)),
        )
        if count.value < 1 or found[0].state:
            raise CublasError("cublasLtMatmulAlgoGetHeuristic", found[0].state or 15)
        self.found = found[0]
        self._results = found
        self.algorithm = ctypes.addressof(found[0].algo)


def algorithms_of(platform: Any) -> dict[str, list[Algorithm]]:
    return {"linear": [Linear(platform)]}
