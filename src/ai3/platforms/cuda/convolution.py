"""cuDNN's algorithms as the platform's."""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf
from typing import Any

from ai3.platforms import epilogue
from ai3.platforms.cuda import cudnn as c
from ai3.platforms.cuda.cudnn import Convolution, CudnnError
from ai3.platforms.platform import Algorithm, Run, too_much
from ai3.problem import Problem

_KEPT = 512


class Known:
    """What cuDNN has told of problems: the descriptors and, by algorithm, the bytes of workspace or
    why it cannot do it."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform
        self._held: OrderedDict[Any, _Told] = OrderedDict()

    def of(self, p: Problem) -> "_Told":
        tf32, _, deterministic = self.platform.settings()
        device = self.platform.current_device()
        key = (repr(p), p.output_layout, tf32, deterministic, device)
        found = self._held.get(key)
        if found is None:
            made = Convolution(self.platform.cudnn, p, tf32)
            found = self._held[key] = _Told(made, device, deterministic)
            if len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return found


class _Told:
    def __init__(self, convolution: Convolution, device: int, deterministic: bool) -> None:
        self.convolution, self.device, self.deterministic = convolution, device, deterministic
        self._answers: dict[int, int | str] = {}
        self._ranking: list[int] | None = None

    def answer(self, algorithm: int) -> int | str:
        """The bytes of workspace, or why not."""
        if algorithm not in self._answers:
            if self.deterministic and algorithm in self.convolution.way.nondeterministic:
                self._answers[algorithm] = "torch is set to deterministic algorithms, and it is not"
                return self._answers[algorithm]
            try:
                self._answers[algorithm] = self.convolution.workspace_bytes(self.device, algorithm)
            except CudnnError as error:
                if not error.unsupported:
                    raise
                self._answers[algorithm] = f"cuDNN does not support it here ({error})"
        return self._answers[algorithm]

    def ranking(self) -> list[int]:
        if self._ranking is None:
            self._ranking = self.convolution.ranking(self.device)
        return self._ranking


class CudnnAlgorithm(Algorithm):
    """The first of some numbered algorithms that cuDNN supports, each by a name of its own."""

    layouts = frozenset({"channels_last"})

    def __init__(self, known: Known, name: str, numbers: dict[int, str]) -> None:
        self.name, self._known, self._numbers = name, known, numbers

    def refusal(self, p: Problem) -> str:
        if p.dtype not in c.DTYPES:
            return f"cuDNN computes {', '.join(c.DTYPES)}, not {p.dtype}"
        return _LIMITS[self.name](p) if self.name in _LIMITS else ""

    def takes(self, p: Problem) -> bool:
        """What cuDNN has for images with their channels last alone tells it."""
        return super().takes(p) and not self.refusal(p) and not self.probe(p)

    def probe(self, p: Problem) -> str:
        try:
            return self._chosen(p)[1]
        except (CudnnError, OSError) as error:
            return str(error)

    def workspace_bytes(self, p: Problem) -> int:
        number, why = self._chosen(p)
        answer = 0 if why else self._known.of(p).answer(number)
        return answer if isinstance(answer, int) else 0

    def stands_for(self, p: Problem) -> str:
        number, why = self._chosen(p)
        return self.name if why else self._numbers.get(number, self.name)

    def cost(self, p: Problem) -> float:
        """Its place in cuDNN's ranking."""
        if self.refusal(p):
            return inf
        try:
            ranking = self._known.of(p).ranking()
            number, why = self._chosen(p)
        except (CudnnError, OSError):
            return inf
        return inf if why or number not in ranking else 1.0 + ranking.index(number)

    def fuses(self, p: Problem) -> bool:
        activation = epilogue.activation_of(p)
        if p.op != "conv2d" or activation not in ("none", "relu"):
            return False
        # cuDNN: without an activation this algorithm alone.
        return activation == "relu" or list(self._numbers) == [c.IMPLICIT_PRECOMP_GEMM]

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        told = self._known.of(p)
        number, _ = self._chosen(p)
        return _planned(told, number, p, weights)

    def _chosen(self, p: Problem) -> tuple[int, str]:
        """The number, or why there is none."""
        told, why = self._known.of(p), ""
        for number in self._candidates(told):
            answer = told.answer(number)
            if isinstance(answer, int):
                if p.memory is None or answer <= p.memory:
                    return number, ""
                answer = too_much(answer, p.memory)
            why = answer
        return -1, why or "cuDNN has no algorithm for it"

    def _candidates(self, told: _Told) -> Sequence[int]:
        return list(self._numbers)


class Guess(CudnnAlgorithm):
    """That which cuDNN thinks is the quickest. No other name stands before it in the ranking: one
    that has several ways may run another than the one that stands there."""

    def cost(self, p: Problem) -> float:
        return inf if self.refusal(p) or self.probe(p) else 0.0

    def fuses(self, p: Problem) -> bool:
        return epilogue.activation_of(p) == "relu" and p.op == "conv2d"

    def _candidates(self, told: _Told) -> Sequence[int]:
        return told.ranking()


def _planned(told: _Told, number: int, p: Problem, weights: Sequence[Any]) -> Run:
    convolution, device = told.convolution, told.device
    answer = told.answer(number)
    assert isinstance(answer, int)
    library, way, size = convolution.cudnn, convolution.way, answer
    weight, bias = (*weights, None, None)[:2]
    relu = epilogue.activation_of(p) == "relu"
    residual = epilogue.has_residual(p)
    fused = relu or residual or (bias is not None and number == c.IMPLICIT_PRECOMP_GEMM)
    if way is c.FORWARD and fused:
        return _fused(told, number, p, weight, bias)
    name = f"cudnnConvolution{way.name}"
    call, on = library.functions[name], library.handles.on
    a, b, geometry, out = convolution.arguments()
    one, zero, added = convolution.one, convolution.zero, convolution.bias.address

    def run(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        handle = on(device)
        first, second = inputs[0], weight
        if way is c.BACKWARD_DATA:
            first, second = weight, inputs[0]
        elif way is c.BACKWARD_FILTER:
            second = inputs[1]
        memory = None if workspace is None else workspace.data_ptr()
        status = call(
            *(handle, one, a, first.data_ptr(), b, second.data_ptr(), geometry, number),
            *(memory, size, zero, out, output.data_ptr()),
        )
        if status:
            library.check(name, status)
        if bias is not None and way is not c.BACKWARD_FILTER and p.op != "conv2d_grad_input":
            library(
                "cudnnAddTensor", handle, one, added, bias.data_ptr(), one, out, output.data_ptr()
            )

    return run


def _fused(told: _Told, number: int, p: Problem, weight: Any, bias: Any) -> Run:
    """With bias, residual and ReLU in one call."""
    convolution, device = told.convolution, told.device
    library, size = convolution.cudnn, told.answer(number)
    name = "cudnnConvolutionBiasActivationForward"
    call, on = library.functions[name], library.handles.on
    x, w, geometry, y = convolution.arguments()
    activation = convolution.activation(epilogue.activation_of(p) == "relu")
    if bias is None:
        bias = weight.new_zeros(p.OC)
    one, zero, added = convolution.one, convolution.zero, convolution.bias.address
    residual = epilogue.has_residual(p)

    def run(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        z = (inputs[1] if residual else output).data_ptr()
        memory = None if workspace is None else workspace.data_ptr()
        status = call(
            *(on(device), one, x, inputs[0].data_ptr(), w, weight.data_ptr(), geometry, number),
            *(memory, size, one if residual else zero, y, z, added, bias.data_ptr()),
            *(activation.address, y, output.data_ptr()),
        )
        if status:
            library.check(name, status)

    return run


def _unit_stride(p: Problem) -> str:
    if (p.stride_h, p.stride_w) != (1, 1):
        return f"the stride is {p.stride_h}x{p.stride_w}, not 1"
    if (p.dilation_h, p.dilation_w) != (1, 1):
        return f"the dilation is {p.dilation_h}x{p.dilation_w}, not 1"
    return ""


def _winograd(p: Problem) -> str:
    if (p.KH, p.KW) not in ((3, 3), (5, 5)):
        return f"the kernel is {p.KH}x{p.KW}, not 3x3 or 5x5"
    return _unit_stride(p)


def _fft(p: Problem) -> str:
    reason = _unit_stride(p)
    if not reason and (p.pad_top >= p.KH or p.pad_left >= p.KW):
        reason = "the padding is not less than the kernel"
    return reason


_LIMITS = {"winograd": _winograd, "fft": _fft}
"""What cuDNN's documentation says of algorithms whatever the shape."""


def algorithms_of(platform: Any) -> dict[str, list[Algorithm]]:
    known = Known(platform)

    def named(numbers: dict[str, dict[int, str]]) -> list[Algorithm]:
        made = [CudnnAlgorithm(known, name, found) for name, found in numbers.items()]
        return [
            *made,
            Guess(known, "guess", {n: t for f in numbers.values() for n, t in f.items()}),
        ]

    data = named(
        {
            "cudnn 0": {0: "cudnn 0"},
            "cudnn 1": {1: "cudnn 1"},
            "fft": {2: "fft: whole", 3: "fft: tiles"},
            "winograd": {4: "winograd: fused", 5: "winograd: not fused"},
        }
    )
    forward = named(
        {
            "gemm": {c.GEMM: "gemm"},
            "implicit gemm": {c.IMPLICIT_GEMM: "implicit gemm"},
            "implicit precomp gemm": {c.IMPLICIT_PRECOMP_GEMM: "implicit precomp gemm"},
            "fft": {c.FFT: "fft: whole", c.FFT_TILING: "fft: tiles"},
            "winograd": {
                c.WINOGRAD: "winograd: fused",
                c.WINOGRAD_NONFUSED: "winograd: not fused",
            },
        }
    )
    by_weight = named(
        {
            "cudnn 0": {0: "cudnn 0"},
            "cudnn 1": {1: "cudnn 1"},
            "cudnn 3": {3: "cudnn 3"},
            "fft": {2: "fft: whole", 6: "fft: tiles"},
            "winograd": {4: "winograd: fused", 5: "winograd: not fused"},
        }
    )
    return {
        "conv2d": forward,
        "conv2d_grad_input": data,
        "conv2d_grad_weight": by_weight,
        "conv_transpose2d": list(data),
    }
