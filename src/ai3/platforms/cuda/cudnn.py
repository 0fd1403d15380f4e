"""cuDNN's convolutions by its numbered algorithms, which its newer interface cannot name: the part
of cudnn_cnn.h (version 9) that is used, through ctypes."""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any

from ai3.platforms.cuda.libraries import Handles, Stream, bound
from ai3.problem import Problem

DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 9}
_NCHW, _NHWC = 0, 1
_CROSS_CORRELATION = 1
_DEFAULT_MATH, _FMA_MATH = 0, 3
_IDENTITY, _RELU = 5, 1
_NAN_PROPAGATES = 1

IMPLICIT_GEMM, IMPLICIT_PRECOMP_GEMM, GEMM, _, FFT, FFT_TILING, WINOGRAD, WINOGRAD_NONFUSED = range(
    8
)
"""cudnnConvolutionFwdAlgo_t"""

NOT_SUPPORTED = range(3000, 4000)
"""Statuses of what cuDNN does not support, in version 9; 9 was that of older ones."""


class CudnnError(RuntimeError):
    """A call of cuDNN's that failed."""

    def __init__(self, function: str, status: int, words: str) -> None:
        self.status = status
        super().__init__(f"cuDNN: {function} failed: {words}")

    @property
    def unsupported(self) -> bool:
        return self.status in NOT_SUPPORTED or self.status == 9


class _Performance(ctypes.Structure):
    """cudnnConvolutionFwdAlgoPerf_t, and those of the gradients"""

    _fields_ = (
        ("algo", c_int),
        ("status", c_int),
        ("time", c_float),
        ("memory", c_size_t),
        ("determinism", c_int),
        ("math", c_int),
        ("reserved", c_int * 3),
    )


@dataclass(frozen=True)
class Direction:
    """The convolution or one of its gradients: the infix of cuDNN's functions, and which of x, w
    and y they take, the last of which they write."""

    name: str
    takes: tuple[str, str, str]
    nondeterministic: frozenset[int] = frozenset()


FORWARD = Direction("Forward", ("x", "w", "y"))
BACKWARD_DATA = Direction("BackwardData", ("w", "y", "x"), frozenset({0}))
BACKWARD_FILTER = Direction("BackwardFilter", ("x", "y", "w"), frozenset({0, 3}))
DIRECTIONS = {
    "conv2d": FORWARD,
    "conv2d_grad_input": BACKWARD_DATA,
    "conv_transpose2d": BACKWARD_DATA,
    "conv2d_grad_weight": BACKWARD_FILTER,
}

_p, _i = c_void_p, c_int
_TAKE: dict[str, Sequence[Any]] = {
    "cudnnCreate": (POINTER(c_void_p),),
    "cudnnSetStream": (_p, _p),
    "cudnnSetTensor4dDescriptorEx": (_p, *[_i] * 9),
    "cudnnSetFilter4dDescriptor": (_p, *[_i] * 6),
    "cudnnSetConvolution2dDescriptor": (_p, *[_i] * 8),
    "cudnnSetConvolutionGroupCount": (_p, _i),
    "cudnnSetConvolutionMathType": (_p, _i),
    "cudnnSetActivationDescriptor": (_p, _i, _i, c_double),
    "cudnnAddTensor": (_p, _p, _p, _p, _p, _p, _p),
    "cudnnConvolutionBiasActivationForward": (
        *(_p, _p, _p, _p, _p, _p, _p, _i, _p, c_size_t),
        *(_p, _p, _p, _p, _p, _p, _p, _p),
    ),
    **{
        f"cudnn{verb}{kind}Descriptor": (taken,)
        for kind in ("Tensor", "Filter", "Convolution", "Activation")
        for verb, taken in (("Create", POINTER(c_void_p)), ("Destroy", c_void_p))
    },
    **{
        name: taken
        for way in (FORWARD, BACKWARD_DATA, BACKWARD_FILTER)
        for name, taken in (
            (f"cudnnGetConvolution{way.name}WorkspaceSize", (*[_p] * 5, _i, POINTER(c_size_t))),
            (
                f"cudnnGetConvolution{way.name}Algorithm_v7",
                (*[_p] * 5, _i, POINTER(_i), POINTER(_Performance)),
            ),
            (
                f"cudnnConvolution{way.name}",
                (*[_p] * 7, _i, _p, c_size_t, _p, _p, _p),
            ),
        )
    },
}
"""The parameters of the functions that are used; all of these return a cudnnStatus_t."""


class Cudnn:
    """The library. Every call that fails raises CudnnError."""

    def __init__(self, library: ctypes.CDLL, stream: Stream) -> None:
        self.functions = bound("cuDNN", library, _TAKE)
        self._words = library.cudnnGetErrorString
        self._words.argtypes, self._words.restype = [c_int], c_char_p
        self._last = getattr(library, "cudnnGetLastErrorString", None)
        library.cudnnGetVersion.restype = c_size_t
        self.version = int(library.cudnnGetVersion())
        if self.version < 90000:
            raise OSError(f"cuDNN {self.version} is older than 9")
        self.handles = Handles(self._handle, lambda h, s: self("cudnnSetStream", h, s), stream)

    def __call__(self, name: str, *arguments: Any) -> None:
        self.check(name, self.functions[name](*arguments))

    def check(self, name: str, status: int) -> None:
        if status:
            words = (self._words(status) or b"").decode()
            if self._last is not None:
                buffer = ctypes.create_string_buffer(256)
                self._last(buffer, c_size_t(256))
                told = buffer.value.decode(errors="replace").strip()
                words = f"{words}: {told}" if told else words
            raise CudnnError(name, status, words)

    def descriptor(self, kind: str, setter: str, *values: Any) -> "Descriptor":
        return Descriptor(self, kind, setter, values)

    def _handle(self) -> int:
        made = c_void_p()
        self("cudnnCreate", ctypes.byref(made))
        assert made.value is not None
        return made.value


class Descriptor:
    """One of cuDNN's descriptors, `address`; it goes with this object."""

    def __init__(self, cudnn: Cudnn, kind: str, setter: str, values: Sequence[Any]) -> None:
        made = c_void_p()
        cudnn(f"cudnnCreate{kind}Descriptor", ctypes.byref(made))
        self.address = made.value
        weakref.finalize(self, cudnn.functions[f"cudnnDestroy{kind}Descriptor"], made.value)
        cudnn(setter, self.address, *values)


class Convolution:
    """One problem's descriptors, and what cuDNN tells of its algorithms. `tf32` permits float32 to
    be rounded to it."""

    def __init__(self, cudnn: Cudnn, p: Problem, tf32: bool) -> None:
        self.cudnn, self.way = cudnn, DIRECTIONS[p.op]
        dtype, last = DTYPES[p.dtype], p.output_layout == "channels_last"
        filter_format = _NHWC if last else _NCHW
        groups = p.groups
        self.x = _tensor(cudnn, dtype, (p.N, p.IC, p.IH, p.IW), last)
        self.y = _tensor(cudnn, dtype, (p.N, p.OC, p.OH, p.OW), last)
        self.bias = _tensor(cudnn, dtype, (1, p.OC if self.way is FORWARD else p.IC, 1, 1), last)
        shape = (p.OC, p.IC // groups, p.KH, p.KW)
        self.w = cudnn.descriptor(
            "Filter", "cudnnSetFilter4dDescriptor", dtype, filter_format, *shape
        )
        geometry = (p.pad_top, p.pad_left, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w)
        double = p.dtype == "float64"
        compute = DTYPES["float64" if double else "float32"]
        self.geometry = cudnn.descriptor(
            "Convolution",
            "cudnnSetConvolution2dDescriptor",
            *(*geometry, _CROSS_CORRELATION, compute),
        )
        cudnn("cudnnSetConvolutionGroupCount", self.geometry.address, groups)
        exact = p.dtype == "float32" and not tf32
        math = _FMA_MATH if exact else _DEFAULT_MATH
        cudnn("cudnnSetConvolutionMathType", self.geometry.address, math)
        scalar: Any = c_double if double else c_float
        self.scalars = (scalar(1), scalar(0))
        self.one, self.zero = (ctypes.addressof(s) for s in self.scalars)

    def arguments(self) -> tuple[Any, ...]:
        """a, b, the convolution, c: as the functions that ask take them."""
        a, b, c = (getattr(self, name).address for name in self.way.takes)
        return a, b, self.geometry.address, c

    def workspace_bytes(self, device: int, algorithm: int) -> int:
        """Raises CudnnError where the algorithm cannot do it."""
        size = c_size_t()
        self.cudnn(
            f"cudnnGetConvolution{self.way.name}WorkspaceSize",
            *(self.cudnn.handles.on(device), *self.arguments(), algorithm, ctypes.byref(size)),
        )
        return size.value

    def ranking(self, device: int) -> list[int]:
        """The algorithms that can do it, by how quick cuDNN thinks that they are."""
        found, count = (_Performance * 8)(), c_int()
        self.cudnn(
            f"cudnnGetConvolution{self.way.name}Algorithm_v7",
            *(self.cudnn.handles.on(device), *self.arguments(), 8, ctypes.byref(count), found),
        )
        return [row.algo for row in found[: count.value] if row.status == 0]

    def activation(self, relu: bool) -> Descriptor:
        mode = _RELU if relu else _IDENTITY
        return self.cudnn.descriptor(
            "Activation", "cudnnSetActivationDescriptor", mode, _NAN_PROPAGATES, 0.0
        )


def _tensor(
    cudnn: Cudnn, dtype: int, shape: tuple[int, int, int, int], channels_last: bool
) -> Descriptor:
    _, c, h, w = shape
    strides = (h * w * c, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)
    return cudnn.descriptor("Tensor", "cudnnSetTensor4dDescriptorEx", dtype, *shape, *strides)
