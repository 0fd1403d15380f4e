"""The binding of cuDNN and cuBLASLt, on the tests' own devices with a library in their places that
computes by plain loops, writes down its calls and fails where it is told to."""

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import UnsupportedAlgorithmError
from ai3.platforms import platform_of, register, unregister
from ai3.platforms.cuda import own
from ai3.platforms.cuda.cublas import CublasLt
from ai3.platforms.cuda.cudnn import Cudnn
from ai3.platforms.cuda.libraries import loaded
from ai3.platforms.cuda.platform import Cuda
from ai3.platforms.platform import Replayed, Stopwatch
from bench.gpu import checks
from test.platforms import device
from test.platforms.test_platforms import CONVOLUTIONS, close, swap_all, trained

SOURCE = Path(__file__).with_name("stand_in.c")


@cache
def library() -> ctypes.CDLL:
    made = device.built(SOURCE, ["-std=gnu17", "-O1", "-fPIC", "-shared"], compiler="cc")
    found = ctypes.CDLL(str(made))
    found.calls.restype = ctypes.c_char_p
    found.need.argtypes = [ctypes.c_size_t]
    return found


def calls(*names: str) -> list[str]:
    lines = library().calls().decode().splitlines()
    return [line for line in lines if not names or line.split()[0] in names]


class OnMirror(Cuda):
    """The platform on devices whose memory is the CPU's."""

    name = "cuda on mirrors"
    device = "mirror"
    tf32 = False
    strict = False

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["cudnn"] = Cudnn(library(), self.stream)
        self.__dict__["cublas"] = CublasLt(library(), self.stream)

    def missing(self) -> str:
        return ""

    def stream(self, index: int) -> int:
        return 7 + index

    def current_device(self) -> int:
        return int(torch.mirror.current_device())  # type: ignore[attr-defined]

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        return mirrors.guard(device)

    def is_current(self, device: Any) -> bool:
        return self.current_device() == device.index

    def settings(self) -> Any:
        return (self.tf32, self.tf32, self.strict)

    def stopwatch(self, device: Any) -> Stopwatch:
        return Stopwatch(lambda: None)

    def replayable(self, run: Replayed, inputs: Any) -> Replayed:
        return run


mirrors = device.Mirror()


@pytest.fixture
def cuda() -> Iterator[OnMirror]:
    library().forget()
    with device.available():
        platform = OnMirror()
        register(platform)
        yield platform
        unregister(platform.name)


def conv(*arguments: Any, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **more, device="mirror:1")


def test_why_it_is_not_there() -> None:
    rows = {row.name: row for row in ai3.platforms()}
    assert platform_of("cuda") is not None
    if torch.version.cuda is None:
        for name in ("cuda", "cudnn", "cublas", "triton"):
            assert rows[name].reason == f"this torch, {torch.__version__}, was built without CUDA"
        assert not ai3.using_cudnn() and not ai3.using_cublas()
    with pytest.raises(OSError, match=r"torch has not loaded cuDNN \(no.so or such.so\)"):
        loaded("cuDNN", ["no.so", "such.so"])


def test_a_library_that_lacks_something_is_told(cuda: OnMirror) -> None:
    libc = ctypes.CDLL(None)
    with pytest.raises(OSError, match="this cuDNN has no cudnn"):
        Cudnn(libc, cuda.stream)
    with pytest.raises(OSError, match="this cuBLASLt has no cublasLt"):
        CublasLt(libc, cuda.stream)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_networks_train_as_before(cuda: OnMirror, name: str) -> None:
    module, shape = CONVOLUTIONS[name]()
    x = torch.randn(shape)
    expected = trained(module, x)
    module.zero_grad()
    module.to("mirror:1")
    swap_all(module)
    close(trained(module, x.to("mirror:1")), expected)
    if 0 not in shape:
        assert calls("cudnnConvolutionForward", "cudnnConvolutionBackwardData", "cublasLtMatmul")


NUMBERS = {
    "implicit gemm": 0,
    "implicit precomp gemm": 1,
    "gemm": 2,
    "fft": 4,
    "winograd": 6,
    "guess": 7,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NUMBERS)
def test_the_named_algorithm_runs(cuda: OnMirror, name: str, dtype: torch.dtype) -> None:
    module = conv(3, 4, 3, padding=1, dtype=dtype)
    x = torch.randn(2, 3, 6, 5, device="mirror:1", dtype=dtype)
    expected = module(x)
    ai3.swap_conv2d(module, name)
    library().forget()
    y = module(x)
    torch.testing.assert_close(y.cpu(), expected.cpu(), rtol=2e-2, atol=2e-2)
    ran = calls("cudnnConvolutionForward", "cudnnConvolutionBiasActivationForward")
    assert [line.split()[1] for line in ran] == [str(NUMBERS[name])]


GRADIENTS = {
    "conv2d_grad_input": {"cudnn 0": 0, "cudnn 1": 1, "fft": 2, "winograd": 4, "guess": 5},
    "conv2d_grad_weight": {
        "cudnn 0": 0,
        "cudnn 1": 1,
        "cudnn 3": 3,
        "fft": 2,
        "winograd": 4,
        "guess": 6,
    },
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("op", "name"), [(op, name) for op in GRADIENTS for name in GRADIENTS[op]])
def test_the_named_gradient_runs(cuda: OnMirror, op: str, name: str, last: bool) -> None:
    module = conv(4, 6, 3, padding=1, groups=2)
    x = torch.randn(2, 4, 6, 5, device="mirror:1")
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = trained(module, x)
    module.zero_grad()
    ai3.swap_conv2d(module, ai3.Conv2dAlgorithms("gemm", **{op.removeprefix("conv2d_"): name}))
    library().forget()
    close(trained(module, x), expected)
    way = "BackwardData" if op == "conv2d_grad_input" else "BackwardFilter"
    (ran,) = calls(f"cudnnConvolution{way}")
    assert ran == f"cudnnConvolution{way} {GRADIENTS[op][name]} on 8"


def test_winograd_takes_what_cudnn_has(cuda: OnMirror) -> None:
    library().refuse(b"Forward 6")
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "winograd")
    module(torch.randn(1, 3, 6, 5, device="mirror:1"))
    assert calls("cudnnConvolutionForward")[0].split()[1] == "7"
    model = ai3.swap_backend(nn.Sequential(module), {"conv2d": "winograd"})
    report = model.report(torch.randn(1, 3, 6, 5, device="mirror:1"), repeat=1)
    assert report.nodes[0].algorithm == "winograd: not fused"


def test_default_is_the_first_of_cudnns_ranking(cuda: OnMirror) -> None:
    library().refuse(b"Forward 7")
    library().refuse(b"Forward 5")
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module)
    module(torch.randn(1, 3, 6, 5, device="mirror:1"))
    assert calls("cudnnConvolutionForward")[0].split()[1] == "6"


def test_refusals_are_cudnns_in_words(cuda: OnMirror) -> None:
    with pytest.raises(UnsupportedAlgorithmError, match="the kernel is 1x1, not 3x3 or 5x5"):
        ai3.swap_conv2d(conv(3, 4, 1), "winograd")
    with pytest.raises(UnsupportedAlgorithmError, match="the stride is 2x2, not 1"):
        ai3.swap_conv2d(conv(3, 4, 3, stride=2), "fft")
    library().refuse(b"Forward 2")
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "gemm")  # no shape is known yet
    words = "cuDNN does not support it here .*CUDNN_STATUS_3000: it was asked to"
    with pytest.raises(ValueError, match=f"'gemm' cannot do this on mirror: {words}"):
        module(torch.randn(1, 3, 6, 5, device="mirror:1"))
    ai3.restore(module)
    by: Any = lambda module, shape: "gemm"  # noqa: E731
    with pytest.raises(UnsupportedAlgorithmError, match=words):
        ai3.swap_conv2d(nn.Sequential(module), by, (1, 3, 6, 5))


@pytest.mark.parametrize(
    "function", ["cudnnSetTensor4dDescriptorEx", "cudnnConvolutionForward", "cudnnCreate"]
)
@pytest.mark.parametrize("status", [1, 2000, 4000, 5000])
def test_failures_are_told(cuda: OnMirror, function: str, status: int) -> None:
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "gemm")
    library().fail(function.encode(), status)
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    with pytest.raises(
        (RuntimeError, ValueError), match=f"{function} failed: CUDNN_STATUS_{status}"
    ):
        module(x)
    library().forget()
    assert module(x).shape == (1, 4, 4, 3)


def test_workspace_under_a_limit(cuda: OnMirror) -> None:
    cuda.workspace_limit = 1000
    library().need(1001)
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "implicit precomp gemm")
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    with pytest.raises(ValueError, match="it needs 1001 bytes of workspace, and 1000 are allowed"):
        module(x)
    cuda.workspace_limit = 1001
    assert module(x).shape == (1, 4, 4, 3)


def test_float32_is_float32_unless_torch_permits_tf32(cuda: OnMirror) -> None:
    module, x = conv(3, 4, 3), torch.randn(1, 3, 6, 5, device="mirror:1")
    linear = nn.Linear(5, 3, device="mirror:1")
    net = nn.Sequential(module, linear)
    ai3.swap(net, {"conv2d": "gemm", "linear": "cublas"})
    net(torch.nn.functional.pad(x, (1, 1)))
    assert calls("cudnnSetConvolutionMathType")[-1] == "cudnnSetConvolutionMathType 3"
    assert calls("cublasLtMatmulDescCreate")[-1] == "cublasLtMatmulDescCreate 68"
    cuda.tf32 = True
    net(torch.nn.functional.pad(x, (1, 1)))
    assert calls("cudnnSetConvolutionMathType")[-1] == "cudnnSetConvolutionMathType 0"
    assert calls("cublasLtMatmulDescCreate")[-1] == "cublasLtMatmulDescCreate 77"


def test_what_is_not_deterministic_is_refused_where_torch_asks(cuda: OnMirror) -> None:
    cuda.strict = True
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, ai3.Conv2dAlgorithms("gemm", grad_weight="cudnn 0"))
    y = module(torch.randn(1, 3, 6, 5, device="mirror:1"))
    with pytest.raises(ValueError, match="deterministic algorithms, and it is not"):
        y.sum().backward()


@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.SiLU()])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ["implicit precomp gemm", "gemm"])
def test_epilogues_are_cudnns_where_it_has_them(
    cuda: OnMirror, name: str, residual: bool, activation: nn.Module | None
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.activation = activation

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            y = y + x if residual else y
            return y if self.activation is None else self.activation(y)

    net, x = Net(), torch.randn(2, 3, 6, 5)
    expected = net(x).detach()
    model = ai3.swap_backend(net.to("mirror"), {"conv2d": name})
    library().forget()
    torch.testing.assert_close(model(x.to("mirror")).cpu(), expected, rtol=1e-4, atol=1e-4)
    # cuDNN: with ReLU by all algorithms, without by this one.
    fused = isinstance(activation, nn.ReLU) or name == "implicit precomp gemm"
    assert bool(calls("cudnnConvolutionBiasActivationForward")) == fused


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.SiLU()])
def test_linear_layers_are_one_call(cuda: OnMirror, bias: bool, activation: nn.Module) -> None:
    net, x = nn.Sequential(nn.Linear(7, 5, bias=bias), activation), torch.randn(2, 3, 7)
    expected = net(x).detach()
    model = ai3.swap_backend(net.to("mirror"))
    torch.testing.assert_close(model(x.to("mirror")).cpu(), expected, rtol=1e-4, atol=1e-4)
    (ran,) = calls("cublasLtMatmul")
    numbers = {(False, False): 1, (True, False): 4, (False, True): 2, (True, True): 6}
    number = numbers[bias, isinstance(activation, nn.ReLU)]
    assert ran == f"cublasLtMatmul {number} on 7"


def test_descriptors_go_with_their_plans(cuda: OnMirror) -> None:
    gc.collect()
    before = library().objects()
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "gemm")
    module(torch.randn(1, 3, 6, 5, device="mirror:1"))
    assert library().objects() > before
    del module
    cuda.__dict__["_own"] = None
    gc.collect()
    assert library().objects() <= before + 1  # the handle


def test_streams_are_torchs(cuda: OnMirror) -> None:
    module = conv(3, 4, 3)
    ai3.swap_conv2d(module, "gemm")
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    for stream in (11, 12, 12):
        cuda.stream = lambda index, stream=stream: stream  # type: ignore[method-assign]
        cuda.cudnn.handles._stream = cuda.stream
        library().forget()
        module(x)
        assert calls("cudnnConvolutionForward") == [f"cudnnConvolutionForward 2 on {stream}"]


@pytest.mark.parametrize("name", checks.ANYWHERE)
def test_the_checks_that_a_gpu_is_for(
    cuda: OnMirror, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Here without our kernels, which are not for these devices."""
    monkeypatch.setattr(own, "algorithms_of", lambda platform: {})
    every = checks.cases
    monkeypatch.setattr(checks, "cases", lambda place: islice(every(place), 0, 1200, 37))
    place = checks.Place(cuda, "mirror:1", inf)
    with cuda.guard(torch.device("mirror:1")):
        checks.ANYWHERE[name](place)
    assert place.tried and not place.faults


def test_without_a_gpu_they_say_so() -> None:
    if torch.version.cuda is not None:
        pytest.skip("this torch may have one")
    for module in ("bench.gpu.test", "bench.gpu.bench"):
        ran = subprocess.run(
            [sys.executable, "-m", module], capture_output=True, text=True, cwd=SOURCE.parents[2]
        )
        assert ran.returncode == 2 and "needs a GPU: this torch" in ran.stderr
