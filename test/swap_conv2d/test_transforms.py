"""What torch does to a network goes on working after `swap_conv2d`: transforms, modes, tools."""

import copy
import io
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

import ai3
from ai3.torch import modules, operators

Net = nn.Sequential


def small_net(dtype: torch.dtype = torch.float32) -> Net:
    return Net(
        nn.Conv2d(4, 8, 3, padding=1, dtype=dtype),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, stride=2, groups=1, dtype=dtype),
    )


def swapped(net: nn.Module, algos: Any = None) -> Any:
    """A copy with weights of its own."""
    other = copy.deepcopy(net)
    ai3.swap_conv2d(other, algos)
    return other


def close(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# functorch and forward mode


def with_parameters(net: nn.Module) -> Callable[..., Tensor]:
    def run(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(net, parameters, (x,))
        return result.square().mean()

    return run


def test_func_grad_and_hessian_vector_product() -> None:
    net = small_net(torch.float64)
    own, theirs = swapped(net), net
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}

    def hvp(network: nn.Module) -> Any:
        gradient = torch.func.grad(with_parameters(network))
        return torch.func.jvp(lambda p: gradient(p, x), (parameters,), (tangents,))

    close(hvp(own), hvp(theirs), 1e-9)


def test_gradients_of_each_sample() -> None:
    net = small_net()
    x = torch.randn(5, 4, 7, 9)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def each(network: nn.Module) -> Any:
        return torch.func.vmap(torch.func.grad(with_parameters(network)), (None, 0))(parameters, x)

    close(each(swapped(net)), each(net))


@pytest.mark.parametrize("batched", ["input", "weight", "both", "bias"])
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap(batched: str, dim: int) -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
    config = swapped(conv).config()
    x, w, b = torch.randn(3, 2, 4, 5, 6), torch.randn(3, 6, 2, 3, 3), torch.randn(3, 6)
    dims = [
        0 if batched in ("input", "both") else None,
        0 if batched in ("weight", "both") else None,
        0 if batched == "bias" else None,
    ]
    given = [t if d == 0 else t[0] for t, d in zip((x, w, b), dims, strict=True)]
    if dim == -1:
        given = [t.movedim(0, -1) if d == 0 else t for t, d in zip(given, dims, strict=True)]
        dims = [None if d is None else -1 for d in dims]

    def theirs(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return nn.functional.conv2d(x, w, b, padding=1, groups=2)

    actual = torch.vmap(lambda *t: operators.conv2d(*t, config), tuple(dims))(*given)
    close(actual, torch.vmap(theirs, tuple(dims))(*given))


def test_vmap_of_vmap_and_unbatched() -> None:
    conv = nn.Conv2d(4, 6, 3)
    x = torch.randn(2, 3, 4, 5, 6)
    close(torch.vmap(torch.vmap(swapped(conv)))(x), torch.vmap(torch.vmap(conv))(x))


def test_ensembles_of_stacked_models() -> None:
    nets = [small_net() for _ in range(3)]
    x = torch.randn(2, 4, 7, 9)
    parameters, buffers = torch.func.stack_module_state(nets)
    base = swapped(nets[0])

    def run(p: Any, b: Any) -> Any:
        return torch.func.functional_call(base, (p, b), (x,))

    close(torch.vmap(run)(parameters, buffers), torch.stack([net(x) for net in nets]))


@pytest.mark.parametrize("reverse", [False, True])
def test_jacobians(reverse: bool) -> None:
    net = small_net(torch.float64)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    jacobian = torch.func.jacrev if reverse else torch.func.jacfwd
    close(jacobian(swapped(net))(x), jacobian(net)(x), 1e-9)


def test_forward_mode_of_autograd() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", dtype=torch.float64)
    net = swapped(conv)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        given = {"weight": weight, "bias": bias}
        result: Tensor = torch.func.functional_call(net, given, (x,))
        return result

    values = (x, *net.parameters())
    assert torch.autograd.gradcheck(run, values, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, values, check_fwd_over_rev=True, fast_mode=True)


def test_third_derivative() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3, dtype=torch.float64), nn.Sigmoid())
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)

    def third(network: nn.Module) -> Any:
        value = network(x).square().sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(value, x, create_graph=True)
            value = g.square().sum()
        return value

    close(third(swapped(net)), third(net), 1e-8)


# autocast and low precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    net = small_net()
    own = swapped(net)
    x = torch.randn(2, 4, 7, 9)
    for network in (own, net):
        with torch.autocast("cpu", dtype=dtype):
            result = network(x)
        assert result.dtype is dtype
        result.float().square().mean().backward()
    with torch.autocast("cpu", dtype=dtype):
        close(own(x), net(x), 2e-2)
    for a, b in zip(own.parameters(), net.parameters(), strict=True):
        assert a.grad is not None and a.grad.dtype is torch.float32
        close(a.grad, b.grad, 2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_networks_accumulate_in_float32(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(256, 8, 3, dtype=dtype)
    own = swapped(conv)
    x = torch.randn(1, 256, 5, 5, dtype=dtype, requires_grad=True)
    exact = nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
    result = own(x)
    assert result.dtype is dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(result.double(), exact, rtol=rounding, atol=rounding / 100)
    result.sum().backward()
    assert x.grad is not None and x.grad.dtype is dtype
    with pytest.raises(ValueError, match=r"one dtype, not .*float.* and float32"):
        own.float()(x)


# weights that are no Parameter


class Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 2


def weight_norm(conv: nn.Module) -> None:
    parametrizations.weight_norm(conv)


def old_weight_norm(conv: nn.Module) -> None:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(conv)


def scaled(conv: nn.Module) -> None:
    parametrize.register_parametrization(conv, "weight", Scaled())
    parametrize.register_parametrization(conv, "bias", Scaled())


def pruned(conv: nn.Module) -> None:
    torch.manual_seed(1)
    prune.random_unstructured(conv, "weight", 0.5)


@pytest.mark.parametrize("change", [weight_norm, old_weight_norm, scaled, pruned])
@pytest.mark.parametrize("swap_first", [False, True])
def test_reparametrised_weights_train(change: Callable[..., None], swap_first: bool) -> None:
    net, own = (Net(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3)) for _ in range(2))
    own.load_state_dict(net.state_dict())
    if swap_first:
        ai3.swap_conv2d(own, "direct")
    for network in (net, own):
        change(network[0])
    if not swap_first:
        ai3.swap_conv2d(own, "direct")
    assert isinstance(own[0], modules.Conv2d) and own[0].algorithm == "direct"
    x = torch.randn(2, 4, 9, 9)
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in (net, own)]
    for _ in range(3):
        for network, optimizer in zip((net, own), optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            close(own(x), net(x))
    close(dict(own.state_dict()), dict(net.state_dict()))
    ai3.restore(own)
    assert not isinstance(own[0], modules.Conv2d)
    close(own(x), net(x))


@pytest.mark.parametrize("swap_first", [False, True])
def test_parametrization_is_removed(swap_first: bool) -> None:
    conv = nn.Conv2d(4, 8, 3)
    x = torch.randn(2, 4, 9, 9)
    if swap_first:
        ai3.swap_conv2d(conv, "smm")
    scaled(conv)
    if not swap_first:
        ai3.swap_conv2d(conv, "smm")
    expected = nn.functional.conv2d(x, conv.weight, conv.bias)
    parametrize.remove_parametrizations(conv, "bias")
    parametrize.remove_parametrizations(conv, "weight")
    assert type(conv) is modules.Conv2d and conv.algorithm == "smm"
    close(conv(x), expected)


def test_parametrised_modules_are_copied() -> None:
    conv = nn.Conv2d(4, 8, 3)
    parametrize.register_parametrization(conv, "weight", Scaled())
    own = swapped(conv)
    x = torch.randn(2, 4, 9, 9)
    close(own(x), conv(x))
    other = copy.deepcopy(own)
    close(other(x), conv(x))
    with torch.no_grad():
        other.parametrizations.weight.original.zero_()
    close(own(x), conv(x))


def test_shared_weights() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (
                nn.Conv2d(4, 4, 3, padding=1),
                nn.Conv2d(4, 4, 3, padding=2, dilation=2),
            )
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Any:
            return self.b(self.a(x)) + self.a(x)

    net = Shared()
    own = swapped(net, {"a": "winograd", "b": "direct"})
    assert own.a.weight is own.b.weight
    x = torch.randn(2, 4, 9, 9)
    for _ in range(2):
        for network in (net, own):
            network.zero_grad()
            network(x).square().mean().backward()
            with torch.no_grad():
                for p in network.parameters():
                    p.sub_(p.grad)
        close(own(x), net(x))


def test_hyper_parameters_that_change_later() -> None:
    conv = nn.Conv2d(4, 8, 3)
    own = swapped(conv)
    x = torch.randn(1, 4, 9, 9)
    own(x)
    for network in (conv, own):
        network.stride, network.padding, network.padding_mode = (2, 1), (1, 1), "zeros"
    close(own(x), conv(x))


# compiling, tracing, exporting


@pytest.mark.parametrize("train", [False, True])
def test_compiles_whole_with_a_dynamic_batch(train: bool) -> None:
    net = small_net()
    own = swapped(net)
    compiled = torch.compile(own, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (2, 3, 5):
            x = torch.randn(batch, 4, 7, 9)
            if not train:
                with torch.inference_mode():
                    close(compiled(x), net(x))
                continue
            for network, module in ((compiled, own), (net, net)):
                module.zero_grad()
                network(x).square().mean().backward()
            for a, b in zip(own.parameters(), net.parameters(), strict=True):
                close(a.grad, b.grad)


def test_compiled_by_inductor_it_trains() -> None:
    net = small_net()
    own = swapped(net)
    compiled = torch.compile(own, fullgraph=True)
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in (net, own)]
    x = torch.randn(2, 4, 7, 9)
    for _ in range(3):
        for network, optimizer in zip((net, compiled), optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    close(compiled(x), net(x))


def test_autocast_is_compiled() -> None:
    net = small_net()
    own = swapped(net)
    compiled = torch.compile(own, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 4, 7, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = compiled(x)
        assert result.dtype is torch.bfloat16
        close(result, net(x), 2e-2)


@pytest.mark.parametrize("strict", [False, True])
def test_exports(strict: bool) -> None:
    net = small_net().eval()
    x = torch.randn(2, 4, 7, 9)
    batch = {"input": {0: torch.export.Dim("batch")}}
    program = torch.export.export(swapped(net), (x,), dynamic_shapes=batch, strict=strict)
    calls = [n for n in program.graph.nodes if n.target is torch.ops.ai3.conv2d.default]
    assert len(calls) == 2
    saved = io.BytesIO()
    torch.export.save(program, saved)
    saved.seek(0)
    loaded = torch.export.load(saved).module()
    for size in (2, 5):
        x = torch.randn(size, 4, 7, 9)
        close(loaded(x), net(x))


def test_jit_trace() -> None:
    net = small_net().eval()
    x = torch.randn(2, 4, 7, 9)
    traced = torch.jit.trace(swapped(net), x)
    assert "ai3::conv2d" in str(traced.inlined_graph)
    saved = io.BytesIO()
    torch.jit.save(traced, saved)
    saved.seek(0)
    for module in (traced, torch.jit.load(saved)):
        x = torch.randn(3, 4, 8, 9)
        close(module(x), net(x))


# tools


def test_profiler_names_algorithm_and_module() -> None:
    own = swapped(small_net(), {"0": "winograd"})
    x = torch.randn(2, 4, 7, 9)
    with torch.profiler.profile() as profile:
        own(x).sum().backward()
    names = [event.key for event in profile.key_averages()]
    assert "ai3::conv2d[winograd] 0" in names
    assert any(name.startswith("ai3::conv2d[default: ") and name.endswith("] 2") for name in names)
    assert {"ai3::conv2d", "ai3::conv2d_grad_weight", "ai3::conv2d_grad_input"} <= set(names)


GRADIENTS = [
    ("conv2d", nn.Conv2d(4, 6, 3), (2, 4, 7, 9), ["conv2d_grad_input", "conv2d_grad_weight"]),
    ("conv1d", nn.Conv1d(4, 6, 3), (2, 4, 9), ["conv2d_grad_input", "conv2d_grad_weight"]),
    ("conv3d", nn.Conv3d(4, 6, 2), (2, 4, 5, 6, 7), ["conv2d_grad_input", "conv2d_grad_weight"]),
    (
        "conv_transpose2d",
        nn.ConvTranspose2d(4, 6, 3),
        (2, 4, 7, 9),
        ["conv2d", "conv2d_grad_weight"],
    ),
    ("linear", nn.Linear(4, 6), (2, 3, 4), ["linear_grad_input", "linear_grad_weight"]),
]


@pytest.mark.parametrize("kind, module, shape, parts", GRADIENTS, ids=[g[0] for g in GRADIENTS])
@pytest.mark.parametrize("forward_too", [True, False])
def test_profiler_names_gradients(
    kind: str, module: nn.Module, shape: tuple[int, ...], parts: list[str], forward_too: bool
) -> None:
    """Where it watches the forward pass too, and where it does not."""
    own = nn.Sequential(OrderedDict(layer=copy.deepcopy(module)))
    ai3.swap(own, {kind: "direct"})
    x = torch.randn(shape, requires_grad=True)
    expected = torch.autograd.grad(own(x).square().sum(), [x, *own.parameters()])
    loss = None if forward_too else own(x).square().sum()
    with torch.profiler.profile() as profile:
        loss = own(x).square().sum() if loss is None else loss
        found = torch.autograd.grad(loss, [x, *own.parameters()])
    for mine, other in zip(found, expected, strict=True):
        close(mine, other)
    names = {event.key: event.count for event in profile.key_averages()}
    torchs = kind == "linear"
    for part in parts:
        label = (
            f"ai3::{part}[torch] layer" if torchs else rf"ai3::{part}\[default: [a-z0-9 ]+\] layer"
        )
        matched = [key for key in names if key == label or re.fullmatch(label, key)]
        assert len(matched) == 1 and names[matched[0]] == 1, (label, sorted(names))
    assert (f"ai3::{kind}[direct] layer" in names) == forward_too


def test_profiler_lets_gradients_be_differentiated() -> None:
    net = small_net()
    own = swapped(net, {"0": "winograd"})
    x = torch.randn(2, 4, 7, 9, requires_grad=True)

    def second(network: nn.Module) -> torch.Tensor:
        (first,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    with torch.profiler.profile():
        found = second(own)
    close(found, second(net))


def test_flops_are_counted_as_torchs() -> None:
    net = small_net()
    counts = []
    for network in (net, swapped(net)):
        x = torch.randn(2, 4, 7, 9, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            network(x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_summaries_show_an_nn_conv2d() -> None:
    torchinfo = pytest.importorskip("torchinfo")
    net = small_net()
    pages = [
        str(torchinfo.summary(network, (1, 4, 7, 9), verbose=0)) for network in (net, swapped(net))
    ]
    assert pages[0] == pages[1] and "Conv2d: 1-1" in pages[0]


def test_package_of_inductor(tmp_path: Path) -> None:
    """Ahead-of-time compiled, in a file; the operator is called by its name."""
    net = small_net().eval()
    x = torch.randn(2, 4, 7, 9)
    program = torch.export.export(swapped(net), (x,))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "net.pt2"))
    with torch.no_grad():
        close(torch._inductor.aoti_load_package(path)(x), net(x))
