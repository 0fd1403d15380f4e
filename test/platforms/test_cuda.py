"""The binding of cuDNN and cuBLASLt, on the tests' own devices with a library in their places that
computes by plain loops, writes down its calls and fails where it is told to."""

import ctypes
import gc
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import UnsupportedAlgorithmError
from ai3.platforms import platform_of
from ai3.platforms.cuda import own
from ai3.platforms.cuda.cublas import CublasLt
from ai3.platforms.cuda.cudnn import Cudnn
from ai3.platforms.cuda.libraries import loaded
from ai3.platforms.cuda.platform import Cuda
from ai3.torch import device_tuning
from test.platforms import stand_in
from test.platforms.stand_in import OnMirror, calls, library
from test.platforms.test_platforms import CONVOLUTIONS, close, swap_all, trained


@pytest.fixture
def cuda() -> Iterator[OnMirror]:
    with stand_in.available() as platform:
        yield platform


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
    library().need(1001)
    module = conv(3, 4, 3)
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    told = "it needs 1001 bytes of workspace, and 1000 are allowed"
    with pytest.raises(UnsupportedAlgorithmError, match=told):
        ai3.swap_conv2d(module, "implicit precomp gemm", x.shape, memory=1000)
    assert type(module) is nn.Conv2d
    ai3.swap_conv2d(module, "implicit precomp gemm", memory=1000)  # no shape is known yet
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for run in (module, compiled):
        with pytest.raises((ValueError, RuntimeError), match=told):
            run(x)
    ai3.swap_conv2d(module, "implicit precomp gemm", x.shape, memory=1001)
    assert module(x).shape == (1, 4, 4, 3)
    algos = {"conv2d": "implicit precomp gemm"}
    with pytest.raises(UnsupportedAlgorithmError, match=told):
        ai3.swap_backend(module, algos, x.shape, memory=1000)
    model = ai3.swap_backend(module, algos, x.shape, memory=1001)
    assert pickle.loads(pickle.dumps(model))(x).shape == (1, 4, 4, 3)
    # "default" takes what does with less: torch's own.
    ai3.swap_conv2d(module, memory=1000)
    library().forget()
    library().need(1001)
    assert module(x).shape == (1, 4, 4, 3) and not calls("cudnnConvolutionForward")
    with pytest.raises(ValueError, match="memory is a number of bytes, not -1"):
        ai3.swap_conv2d(module, memory=-1)
    with pytest.raises(ValueError, match="memory bounds the workspaces of modules on a device"):
        ai3.swap_conv2d(nn.Conv2d(3, 4, 3), memory=1000)


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


@pytest.mark.parametrize("name", ["direct", "smm", "winograd f4"])
def test_our_kernels_run_by_name(cuda: OnMirror, name: str) -> None:
    module = conv(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 6, 5, device="mirror:1")
    expected = trained(module, x)
    module.zero_grad()
    chosen = ai3.Conv2dAlgorithms(name, grad_input=name, grad_weight="direct")
    ai3.swap_conv2d(module, chosen, x.shape)
    library().forget()
    close(trained(module, x), expected)
    assert not [line for line in calls() if "Convolution" in line]


def test_winograd_is_ours_where_cudnn_has_none(cuda: OnMirror) -> None:
    library().refuse(b"Forward 6")
    library().refuse(b"Forward 7")
    module = conv(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    expected = module(x).detach()
    ai3.swap_conv2d(module, "winograd")
    close([module(x).detach().cpu()], [expected.cpu()])
    assert not calls("cudnnConvolutionForward")
    model = ai3.swap_backend(nn.Sequential(module), {"conv2d": "winograd"})
    assert model.report(x, repeat=1).nodes[0].algorithm == "winograd f4"


@pytest.mark.parametrize(
    ("a", "b", "batch"),
    [
        ((3, 5), (5, 4), 1),
        ((2, 6, 3, 5), (5, 4), 1),
        ((2, 6, 3, 5), (2, 6, 5, 4), 12),
        ((3, 5), (7, 5, 4), 7),
        ((1, 3, 5), (7, 5, 4), 7),
        ((2, 1, 3, 5), (2, 6, 5, 4), 0),
        ((5,), (5, 4), 0),
    ],
)
def test_products_of_matrices(
    cuda: OnMirror, a: tuple[int, ...], b: tuple[int, ...], batch: int
) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x @ y

    x, y = torch.randn(a), torch.randn(b)
    model = ai3.swap_backend(nn.Sequential(nn.Linear(1, 1)).to("mirror"))
    net = Net()
    net.some = nn.Parameter(torch.zeros(1, device="mirror"))
    model = ai3.swap_backend(net, None, [a, b])
    library().forget()
    found = model(x.to("mirror"), y.to("mirror"))
    torch.testing.assert_close(found.cpu(), x @ y, rtol=1e-4, atol=1e-4)
    assert len(calls("cublasLtMatmul")) == (batch > 0)


def test_addresses_are_multiples_of_what_libraries_want(cuda: OnMirror) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 3)).to("mirror:1")
    x = torch.randn(2 * 3 * 6 * 6 + 1)[1:].view(2, 3, 6, 6)
    expected = net.cpu()(x)
    net.to("mirror:1")
    parameter = torch.zeros(4 * 3 * 3 * 3 + 1, device="mirror:1")[1:].view(4, 3, 3, 3)
    parameter.copy_(net[0].weight.detach())
    net[0].weight.data = parameter
    moved = torch.zeros(x.numel() + 1, device="mirror:1")[1:].view(x.shape).copy_(x)
    assert moved.data_ptr() % 16 and net[0].weight.data_ptr() % 16
    ai3.swap(net, {"conv2d": "gemm", "linear": "cublas"})
    close([net(moved).detach().cpu()], [expected.detach()])
    assert calls("cudnnConvolutionForward", "cublasLtMatmul")
    with torch.no_grad():
        net[0].weight.mul_(2)
    again = net[0](moved).detach().cpu()
    net.cpu()
    close([again], [nn.functional.conv2d(x, net[0].weight, net[0].bias).detach()])


def test_default_is_the_next_where_the_first_refuses(cuda: OnMirror) -> None:
    library().fail(b"cublasLtMatmulAlgoGetHeuristic", 15)
    linear, x = nn.Linear(5, 3, device="mirror"), torch.randn(2, 5, device="mirror")
    ai3.swap(linear, {"linear": "default"})
    assert linear(x).shape == (2, 3) and not calls("cublasLtMatmul")


def test_threads_take_over_handles(cuda: OnMirror) -> None:
    module, x = conv(3, 4, 3), torch.randn(1, 3, 6, 5, device="mirror:1")
    ai3.swap_conv2d(module, "gemm")
    for _ in range(4):
        thread = threading.Thread(target=module, args=(x,))
        thread.start()
        thread.join()
    assert len(calls("cudnnConvolutionForward")) == 4 and len(calls("cudnnCreate")) == 1


def test_channels_last_where_cudnn_has_it_alone(cuda: OnMirror) -> None:
    module = conv(3, 4, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, 3, 6, 5, device="mirror:1").contiguous(memory_format=torch.channels_last)
    expected = module(x).detach()
    ai3.swap_conv2d(module, "gemm")
    assert module(x).is_contiguous(memory_format=torch.channels_last)
    library().refuse_last()
    fresh = conv(3, 4, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fresh.load_state_dict(module.state_dict())
    cuda.__dict__["_own"] = None
    ai3.swap_conv2d(fresh, "gemm")
    close([fresh(x).detach().cpu()], [expected.cpu()])


@pytest.mark.parametrize("first", ["inference", "training"])
def test_inference_mode_and_training_take_turns(cuda: OnMirror, first: str) -> None:
    net = nn.Sequential(conv(3, 4, 3, padding=1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, 3, 6, 5, device="mirror:1")
    ai3.swap_conv2d(net, "gemm")
    for mode in [first, *({"inference", "training"} - {first}), first]:
        if mode == "inference":
            with torch.inference_mode():
                net(x)
        else:
            net(x).sum().backward()


def test_default_goes_by_what_was_measured(
    cuda: OnMirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AI3_CACHE_DIR", str(tmp_path))
    times = {"fft": 1e-4, "direct": 2e-4}
    sampled: list[str] = []

    def sample(task: Any, name: str) -> Any:
        sampled.append(name)
        return lambda: times.get(name, 1e-3)

    monkeypatch.setattr(device_tuning, "_sampled", sample)
    net = nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4, device="mirror:1"), conv(4, 4, 3)).eval()
    x = torch.randn(1, 3, 9, 8, device="mirror:1")
    tuned = ai3.tune(net, x, seconds=60)
    assert {each.forward for each in tuned.values()} == {"fft"} and tuned.measured == 2
    assert set(sampled) == set(cuda.algorithms("conv2d"))
    ai3.swap_conv2d(net)
    library().forget()
    net(x)
    assert [line.split()[1] for line in calls("cudnnConvolutionForward")] == ["4", "4"]
    model = ai3.swap_backend(net)
    assert {n.algorithm for n in model.report(x, repeat=1).nodes if n.op == "conv2d"} == {
        "fft: whole"
    }
    # What was measured is of this machine, problem and settings alone.
    assert ai3.tune(net, x, seconds=60).known == 2
    library().forget()
    net(torch.cat([x, x]))
    cuda.tf32 = True
    net(x)
    assert {line.split()[1] for line in calls("cudnnConvolutionForward")} == {"7"}
    cuda.tf32 = False
    ai3.tuning.clear()
    library().forget()
    ai3.restore(net)
    ai3.swap_conv2d(net)
    net(x)
    assert {line.split()[1] for line in calls("cudnnConvolutionForward")} == {"7"}
    with pytest.raises(ValueError, match="the network is on mirror:1, and budgets are for"):
        ai3.tune(net, x, memory=1)


def test_algorithms_race_on_the_device(
    cuda: OnMirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AI3_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(own, "algorithms_of", lambda platform: {})
    net = nn.Sequential(conv(3, 4, 3, padding=1))
    x = torch.randn(2, 3, 6, 5, device="mirror:1")
    tuned = ai3.tune(net, x, seconds=30, gradients=True)
    (chosen,) = tuned.values()
    assert chosen.forward in cuda.algorithms("conv2d")
    assert chosen.grad_input in cuda.algorithms("conv2d_grad_input")
    assert chosen.grad_weight in cuda.algorithms("conv2d_grad_weight")
    assert tuned.measured == 3
    expected = trained(net, x)
    net.zero_grad()
    ai3.swap_conv2d(net, tuned)
    close(trained(net, x), expected)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update",
            "torch cannot use a GPU: The NVIDIA driver on your system is too old (found version "
            "11040)",
        ),
        (None, "torch finds no GPU"),
    ],
)
def test_a_driver_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch, error: str | None, told: str
) -> None:
    def init() -> None:
        if error is not None:
            raise RuntimeError(error)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    rows = {row.name: row for row in ai3.platforms()}
    assert {rows[name].reason for name in ("cuda", "cudnn", "cublas", "triton")} == {told}


def test_no_room_for_a_workspace(cuda: OnMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = conv(3, 4, 3), torch.randn(1, 3, 6, 5, device="mirror:1")
    ai3.swap_conv2d(module, "gemm")
    model = ai3.swap_backend(nn.Sequential(module), {"conv2d": "gemm"})
    empty = torch.empty

    def full(*size: Any, dtype: Any = None, **more: Any) -> torch.Tensor:
        if dtype is torch.uint8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
        return empty(*size, dtype=dtype, **more)

    monkeypatch.setattr(torch, "empty", full)
    for run in (module, model):
        with pytest.raises(
            torch.OutOfMemoryError, match="conv2d by 'gemm': mirror:1 has no room for a workspace"
        ):
            run(x)
    monkeypatch.undo()
    assert module(x).shape == model(x).shape == (1, 4, 4, 3)


def test_networks_on_several_devices(cuda: OnMirror) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    x = torch.randn(2, 3, 9, 8)
    expected = trained(net, x)
    net.zero_grad()
    net[0].to("mirror:0")
    net[1].to("mirror:1")
    ai3.swap_conv2d(net, "gemm")
    net[1].register_forward_pre_hook(lambda _, given: given[0].to("mirror:1"))
    # Going back from one to the other takes events, which these devices have not.
    with torch.no_grad():
        close([net(x.to("mirror:0")).cpu()], expected[:1])
    ran = calls("cudnnConvolutionForward")
    assert [line.split("on ")[1] for line in ran] == ["7", "8"]


def test_distributed_training(cuda: OnMirror) -> None:
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    handed = 0

    def alone(state: Any, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        nonlocal handed
        handed += 1
        future = torch.futures.Future[torch.Tensor]()
        future.set_result(bucket.buffer())
        return future

    net, x = nn.Sequential(conv(3, 4, 3), conv(4, 2, 1)), torch.randn(1, 3, 6, 5)
    x = x.to("mirror:1")
    expected = trained(net, x)
    net.zero_grad()
    ai3.swap_conv2d(net, "gemm")
    distributed.init_process_group("cpu:fake,mirror:fake", rank=0, world_size=2, store=FakeStore())
    try:
        with cuda.guard(torch.device("mirror:1")):
            parallel = nn.parallel.DistributedDataParallel(net)
            parallel.register_comm_hook(None, alone)
            library().forget()
            found = trained(parallel, x)
    finally:
        distributed.destroy_process_group()
    close(found, expected)
    assert handed == 1
    assert len(calls("cudnnConvolutionForward")) == 2
    assert len(calls("cudnnConvolutionBackwardFilter")) == 2


def test_settings_are_torchs() -> None:
    cuda, cudnn, matmul = Cuda(), torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    try:
        for tf32 in ((False, True), (True, False)):
            cudnn.allow_tf32, matmul.allow_tf32 = tf32
            assert cuda.settings() == (*tf32, False)
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=before[0]):
        assert cuda.settings()[2]
    torch.use_deterministic_algorithms(True)
    assert cuda.settings()[2]
    torch.use_deterministic_algorithms(False)
    assert not cuda.settings()[2]
