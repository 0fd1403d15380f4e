"""Algorithms that are added while the program runs."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3 import _core
from ai3.algorithms import REGISTERED
from ai3.ops import LAYOUTS

ARRAYS = ("numpy", "torch")


pytestmark = pytest.mark.usefixtures("forgotten")


def add_taps(name: str = "taps", arrays: str = "numpy", **more: Any) -> list[Any]:
    """Adds a convolution of one product for each kernel position; gives the problems it planned."""
    planned: list[Any] = []

    class Taps:
        def refusal(self, p: Any) -> str | None:
            if p.groups > 1 or p.padding_mode != "zeros":
                return "it has groups, or is not padded by zeros"
            return None

        def workspace_bytes(self, p: Any) -> int:
            size = p.N * p.IC * (p.IH + p.pad_top + p.pad_bottom)
            return size * (p.IW + p.pad_left + p.pad_right) * (8 if p.dtype == "float64" else 4)

        def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
            planned.append(p)
            kernel, bias = [None if w is None else np.asarray(w) for w in (*weights, None)][:2]
            assert kernel is not None and kernel.shape == (p.OC, p.IC, p.KH, p.KW)
            taps = [
                (i * p.dilation_h, j * p.dilation_w, kernel[:, :, i, j])
                for i in range(p.KH)
                for j in range(p.KW)
            ]
            top, left = p.pad_top, p.pad_left
            shape = (p.N, p.IC, p.IH + top + p.pad_bottom, p.IW + left + p.pad_right)

            def run(inputs: list[Any], output: Any, workspace: Any) -> None:
                kind = torch.Tensor if arrays == "torch" else np.ndarray
                assert all(isinstance(array, kind) for array in (*inputs, output, workspace))
                x, y = np.asarray(inputs[0]), np.asarray(output).reshape(p.N, p.OC, p.OH, p.OW)
                padded = np.asarray(workspace).view(p.dtype).reshape(shape)
                padded[:] = 0
                padded[:, :, top : top + p.IH, left : left + p.IW] = x
                y[:] = 0 if bias is None else bias[:, None, None]
                for i, j, tap in taps:
                    rows = slice(i, i + (p.OH - 1) * p.stride_h + 1, p.stride_h)
                    columns = slice(j, j + (p.OW - 1) * p.stride_w + 1, p.stride_w)
                    y += np.einsum("oc,nchw->nohw", tap, padded[:, :, rows, columns])

            return run

    for key, value in more.items():
        setattr(Taps, key, value)
    ai3.algorithm("conv2d", name, arrays=arrays)(Taps)
    return planned


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, (3, 2), stride=2, dilation=2)
    ).eval()


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(actual), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("arrays", ARRAYS)
def test_everywhere(arrays: str, dtype: torch.dtype) -> None:
    planned = add_taps(arrays=arrays)
    assert "taps" in ai3.SUPPORTED_ALGORITHMS["conv2d"]
    net, x = network().to(dtype), torch.randn(2, 3, 17, 16, dtype=dtype)
    expected = net(x).detach()
    model = ai3.swap_backend(net, {"conv2d": "taps"}, tuple(x.shape))
    close(model(x), expected)
    assert "taps" in str(model.report(x))
    assert [n.algorithm for n in model.profile(x) if n.op == "conv2d"] == ["taps", "taps"]
    before = len(planned)
    close(model(x), expected)
    assert len(planned) == before
    close(model(x.to(memory_format=torch.channels_last)), expected)
    ai3.swap_conv2d(net, "taps")
    with torch.no_grad():
        close(net(x), expected)
        close(net(x[0]), expected[0])
        net[0].weight.data[0, 0, 0, 0] += 1
        assert (net(x) - expected).abs().max() > 0.01


def test_what_a_problem_is() -> None:
    planned = add_taps()
    nn.Sequential(own := network()[2])
    ai3.swap_conv2d(own, "taps")
    own(torch.zeros(1, 8, 9, 11))
    (p,) = planned
    assert (p.op, p.dtype, p.inputs, p.output) == ("conv2d", "float32", ((1, 8, 9, 11),), p.output)
    assert (p.N, p.IC, p.IH, p.IW, p.OC, p.KH, p.KW, p.OH, p.OW) == (1, 8, 9, 11, 4, 3, 2, 3, 5)
    assert (p.stride_h, p.dilation_w, p.pad_left, p.groups) == (2, 2, 0, 1)
    assert p.has_bias and p.weights == ((4, 8, 3, 2), (4,)) and p.threads >= 1
    assert p.attributes["padding_mode"] == "zeros"
    with pytest.raises(AttributeError, match=r"conv2d has no 'IX'; .*groups"):
        p.IX  # noqa: B018
    with pytest.raises(AttributeError, match="cannot be changed"):
        p.N = 2
    assert "conv2d of (1, 8, 9, 11) by (4, 8, 3, 2)" in repr(p)


def test_it_is_trained_by_the_built_in_gradients() -> None:
    add_taps()
    nets = network(), network()
    nets[1].load_state_dict(nets[0].state_dict())
    ai3.swap_conv2d(nets[0], "taps")
    x = torch.randn(2, 3, 12, 12)
    for net in nets:
        net(x).square().sum().backward()
    for own, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        close(own.grad, other.grad)


def test_it_brings_gradients() -> None:
    called = []

    def grad_input(self: Any, p: Any, weights: list[Any]) -> Callable[..., None]:
        def run(inputs: list[Any], output: Any, workspace: Any) -> None:
            called.append(p.op)
            output[:] = torch.nn.grad.conv2d_input(
                p.output, torch.tensor(weights[0]), torch.tensor(inputs[0]), p.stride, 1
            )

        return run

    def grad_weight(self: Any, p: Any, weights: list[Any]) -> Callable[..., None]:
        assert not weights

        def run(inputs: list[Any], output: Any, workspace: Any) -> None:
            called.append(p.op)
            x, grad = (torch.tensor(array) for array in inputs)
            output[:] = torch.nn.grad.conv2d_weight(x, p.output, grad, p.stride, 1)

        return run

    add_taps(grad_input=grad_input, grad_weight=grad_weight)
    assert "taps" in ai3.SUPPORTED_ALGORITHMS["conv2d_grad_weight"]
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 9, 9, requires_grad=True)
    expected = torch.autograd.grad(conv(x).square().sum(), [x, conv.weight])
    ai3.swap_conv2d(conv, "taps")
    actual = torch.autograd.grad(conv(x).square().sum(), [x, conv.weight])
    for one, other in zip(actual, expected, strict=True):
        close(one, other)
    assert sorted(called) == ["conv2d_grad_input", "conv2d_grad_weight"]
    assert ai3.swapped(conv)[0][3:] == ("taps", "taps")
    # Not the transposed convolution, which is derived from the gradient.
    assert "taps" not in ai3.SUPPORTED_ALGORITHMS["conv_transpose2d"]


def test_refusals_are_known_at_swap_time() -> None:
    add_taps()
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3))
    with pytest.raises(ai3.errors.UnsupportedAlgorithmError, match="0: 'taps': it has groups"):
        ai3.swap_conv2d(net, "taps")
    with pytest.raises(ai3.errors.UnsupportedAlgorithmError, match="it has groups"):
        ai3.swap_backend(net, {"conv2d": "taps"})
    ai3.swap_conv2d(net, "taps", unsupported="direct")
    assert [conv.algorithm for conv in net] == ["direct", "taps"]


@pytest.mark.parametrize(("cycles", "chosen"), [(1.0, True), (1e18, False), (float("inf"), False)])
def test_cost(cycles: float, chosen: bool) -> None:
    add_taps(cost=lambda self, p: cycles)
    net, x = network(), torch.randn(1, 3, 12, 12)
    model = ai3.swap_backend(net)
    algorithms = [n.algorithm for n in model.profile(x) if n.op == "conv2d"]
    assert algorithms == ["taps"] * 2 if chosen else "taps" not in algorithms
    close(model(x), net(x).detach())
    grouped = ai3.swap_backend(nn.Conv2d(4, 4, 3, groups=2))
    assert [n.algorithm for n in grouped.profile(torch.zeros(1, 4, 5, 5))] != ["taps"]


@pytest.mark.parametrize("arrays", ARRAYS)
@pytest.mark.parametrize("layout", ["channels_last", "blocked"])
def test_other_layouts(layout: str, arrays: str) -> None:
    """Where it takes what lies around it, nothing is reordered."""
    seen: list[Any] = []

    @ai3.algorithm("relu", "ours", arrays=arrays)
    class Ours:
        layouts = (layout,)

        def plan(self, problem: Any, weights: list[Any]) -> Any:
            assert problem.input_layouts == (problem.output_layout,)
            kind = problem.output_layout

            def run(inputs: list[Any], output: Any, workspace: Any) -> None:
                x, y = inputs[0], output
                seen.append((kind, tuple(x.shape)))
                assert tuple(y.shape) == tuple(x.shape)
                if kind == "channels_last":
                    strides = np.asarray(x).strides
                    assert strides[1] == 4 and strides[3] == 4 * x.shape[1]
                if arrays == "torch":
                    torch.clamp(x, min=0, out=y)
                else:
                    np.maximum(x, 0, out=y)

            return run

    @ai3.algorithm("conv2d", "ours", arrays="torch")
    class Product:
        """Of one pixel."""

        layouts = (layout,)

        def plan(self, problem: Any, weights: list[Any]) -> Any:
            def run(inputs: list[Any], output: Any, workspace: Any) -> None:
                seen.append((problem.input_layouts[0], tuple(inputs[0].shape)))
                weight, x = weights[0][:, :, 0, 0], inputs[0]
                if x.dim() == 5:  # (N, blocks, H, W, B)
                    x = x.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, : problem.IC]
                y = torch.einsum("oc,nchw->nohw", weight, x)
                if output.dim() == 5:
                    block = output.shape[-1]
                    y = nn.functional.pad(y, (0, 0, 0, 0, 0, -problem.OC % block))
                    y = y.unflatten(1, (-1, block)).permute(0, 1, 3, 4, 2)
                output.copy_(y)

            return run

    class Net(nn.Module):
        """Its images are of pixels, or its convolutions best done in blocks."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 19, 3, padding=1)
            self.last = nn.Conv2d(19 if layout == "blocked" else 3, 21, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            if layout == "blocked":
                return F.relu(self.last(F.relu(self.first(x))))
            return F.relu(self.last(F.relu(x.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)

    net = Net()
    x = torch.randn((2, 3, 9, 7) if layout == "blocked" else (2, 9, 7, 3))
    model = ai3.swap_backend(net, {"relu": "ours", "conv2d": {"last": "ours"}})
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(model(x)), net(x), rtol=1e-4, atol=1e-5)
    assert {kind for kind, _ in seen} >= {layout}
    held = {node.layout for node in model.profile(x) if node.algorithm == "ours"}
    assert layout in held
    spec = _core.Spec("float32", (1, 3, 4, 4), ({*LAYOUTS} - {"dense", layout}).pop())
    problem = _core.problem("relu", [spec])
    assert problem.refusal("ours") == f"it takes dense and {layout} arrays"


@pytest.mark.parametrize("arrays", ARRAYS)
def test_a_function(arrays: str) -> None:
    calls = []

    @ai3.algorithm("linear", "plain", arrays=arrays)
    def plain(problem: Any, x: Any, weight: Any, bias: Any, output: Any) -> None:
        calls.append((problem.rows, problem.IC, problem.OC))
        output[:] = x @ weight.T + bias

    @ai3.algorithm("add", "plain", arrays=arrays)
    def sums(problem: Any, a: Any, b: Any, output: Any) -> None:
        output[:] = a + b

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return (self.one(x) + self.other(x)).relu()

    net, x = Net(), torch.randn(3, 4, 6)
    model = ai3.swap_backend(net, {"linear": "plain", "add": "plain"})
    close(model(x), net(x).detach())
    assert calls == [(12, 6, 5)] * 2
    # Nothing is fused into, or with, what the core did not write.
    assert [n.op for n in model.profile(x)] == ["linear", "linear", "add", "relu"]
    ai3.swap(net, {"linear": "plain"})
    close(net(x).detach(), torch.as_tensor(model(x)))


def test_arrays_are_views_that_cannot_be_written() -> None:
    seen: dict[str, Any] = {}

    @ai3.algorithm("linear", "peek")
    def peek(problem: Any, x: Any, weight: Any, bias: Any, output: Any) -> None:
        seen.update(x=x.ctypes.data, weight=weight.ctypes.data, writes=x.flags.writeable)
        with pytest.raises(ValueError, match="read-only"):
            x[:] = 0
        output[:] = 0

    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    ai3.swap(layer, {"linear": "peek"})
    with torch.no_grad():
        layer(x)
    assert seen == {"x": x.data_ptr(), "weight": layer.weight.data_ptr(), "writes": False}


def test_an_absent_bias_is_none() -> None:
    @ai3.algorithm("linear", "no bias")
    class NoBias:
        def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
            assert not p.has_bias and weights[1:] in ([], [None])
            return lambda inputs, output, workspace: np.matmul(inputs[0], weights[0].T, out=output)

    layer, x = nn.Linear(4, 3, bias=False), torch.randn(2, 4)
    close(ai3.swap_backend(layer, {"linear": "no bias"})(x), layer(x).detach())
    ai3.swap(layer, {"linear": "no bias"})
    close(layer(x).detach(), x @ layer.weight.T.detach())


def test_what_it_raises_arrives() -> None:
    class Own(Exception):
        pass

    @ai3.algorithm("relu", "raises")
    def raises(problem: Any, x: Any, output: Any) -> None:
        raise Own("in the middle")

    model = ai3.swap_backend(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), {"relu": "raises"})
    x = torch.zeros(1, 3, 8, 8)
    for _ in range(2):
        with pytest.raises(Own, match="in the middle"):
            model(x)

    @ai3.algorithm("relu", "raises")
    def better(problem: Any, x: Any, output: Any) -> None:
        np.maximum(x, 0, out=output)

    close(ai3.swap_backend(nn.ReLU(), {"relu": "raises"})(x - 1), torch.zeros_like(x))

    @ai3.algorithm("relu", "no plan")
    class NoRun:
        def plan(self, p: Any, weights: list[Any]) -> None:
            return None

    with pytest.raises(TypeError, match=r"NoRun.plan must give a function"):
        ai3.swap_backend(nn.ReLU(), {"relu": "no plan"})(x)


def test_threads_take_turns() -> None:
    add_taps()
    net = network()
    model = ai3.swap_backend(net, {"conv2d": "taps"})
    images = [torch.randn(1, 3, 14 + i % 3, 15) for i in range(12)]
    expected = [net(image).detach() for image in images]
    found: list[Any] = [None] * len(images)

    def work(i: int) -> None:
        for _ in range(10):
            found[i] = model(images[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for actual, wanted in zip(found, expected, strict=True):
        close(actual, wanted)


def test_compiled_as_one_operator() -> None:
    add_taps()
    net, x = network(), torch.randn(1, 3, 12, 12)
    expected = net(x).detach()
    ai3.swap_conv2d(net, "taps")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    close(compiled(x).detach(), expected)
    exported = torch.export.export(net, (x,))
    assert "taps" in str(exported.graph)
    close(exported.module()(x).detach(), expected)


def test_rows_and_volumes_run_it_too() -> None:
    add_taps()
    for module, shape in ((nn.Conv1d(3, 4, 3), (2, 3, 9)), (nn.Conv3d(3, 4, 3), (2, 3, 5, 6, 7))):
        x = torch.randn(shape)
        expected = module(x).detach()
        kind = type(module).__name__.lower()
        close(ai3.swap_backend(module, {kind: "taps"})(x), expected)
        ai3.swap(module, {kind: "taps"})
        close(module(x).detach(), expected)


def test_files_name_it(tmp_path: Any) -> None:
    add_taps()
    net, x = network(), torch.randn(1, 3, 12, 12)
    path = tmp_path / "net.ai3"
    ai3.swap_backend(net, {"conv2d": "taps"}).save(path)
    loaded = ai3.load(path)
    close(loaded(x), net(x).detach())
    assert {n.algorithm for n in loaded.graph.nodes} == {"taps", "default"}
    ai3.remove_algorithm("conv2d", "taps")
    with pytest.raises(ai3.errors.FileError, match=r"'taps' of conv2d.*unsupported='default'"):
        ai3.load(path)
    other = ai3.load(path, unsupported="direct")
    close(other(x), net(x).detach())
    close(loaded(x), net(x).detach())  # planned before


def test_removed_and_replaced() -> None:
    add_taps()
    before = ai3.SUPPORTED_ALGORITHMS["conv2d"]
    ai3.remove_algorithm("conv2d", "taps")
    assert [name for name in before if name != "taps"] == ai3.SUPPORTED_ALGORITHMS["conv2d"]
    with pytest.raises(ai3.errors.SelectionError, match="taps"):
        ai3.swap_conv2d(network(), "taps")
    with pytest.raises(ValueError, match="no algorithm 'taps' of conv2d was added"):
        ai3.remove_algorithm("conv2d", "taps")
    with pytest.raises(ValueError, match="built in"):
        _core.remove_algorithm("conv2d", "direct")


@pytest.mark.parametrize("name", ["direct", "default", "guess", "winograd f4"])
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' of its own: give yours another name"):
        add_taps(name)
    assert not REGISTERED


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"operation.*conv3.*conv2d"):
        ai3.algorithm("conv3", "mine")
    with pytest.raises(ValueError, match=r"arrays.*jax.*numpy"):
        ai3.algorithm("conv2d", "mine", arrays="jax")
    with pytest.raises(TypeError, match=r"needs a method plan\(self, problem, weights\)"):
        ai3.algorithm("conv2d", "mine")(type("Empty", (), {}))
    with pytest.raises(ValueError, match=r"layout of Odd: 'nhwc'.*'channels_last'"):
        kind = {"layouts": ("nhwc",), "plan": lambda self, problem, weights: None}
        ai3.algorithm("conv2d", "mine")(type("Odd", (), kind))
    with pytest.raises(TypeError, match="a class or a function"):
        ai3.algorithm("conv2d", "mine")(7)
    with pytest.raises(TypeError, match="a text"):
        ai3.algorithm("conv2d", "")


def test_empty_arrays_never_reach_it() -> None:
    planned = add_taps()
    model = ai3.swap_backend(network(), {"conv2d": "taps"})
    assert tuple(model(torch.zeros(0, 3, 12, 12)).shape) == (0, 4, 4, 5)
    assert not planned
