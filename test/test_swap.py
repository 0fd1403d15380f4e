"""`ai3.swap`: modules of every kind, swapped in place."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import ai3
from ai3.ops import ALGORITHMS_OF, ON_CPU
from ai3.torch import layer
from ai3.torch.modules import KINDS
from test.compare import in_own_dtype

SIZES = {1: (19,), 2: (9, 8), 3: (6, 7, 5)}


def dims_of(kind: str) -> int:
    return int(kind[-2]) if kind.endswith("d") else 0


def algorithms_of(kind: str) -> list[str]:
    names = ON_CPU[ALGORITHMS_OF.get(kind, kind)]
    return [name for name in in_own_dtype(names) if name != "custom"]


def cases() -> Iterator[Any]:
    shared: list[dict[str, Any]] = [
        {},
        {"kernel_size": 1},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2},
        {"groups": 2, "bias": False},
        {"groups": 4, "kernel_size": 2},
    ]
    own: dict[str, list[dict[str, Any]]] = {
        "conv": [
            {"padding": "same", "dilation": 2},
            {"padding": "valid", "stride": 3},
            *({"padding": 1, "padding_mode": m} for m in ("reflect", "replicate", "circular")),
        ],
        "conv_transpose": [
            {"stride": 2, "output_padding": 1, "padding": 1},
            {"stride": 3, "kernel_size": 2, "output_padding": 2, "groups": 2},
            {"stride": 2, "dilation": 4, "output_padding": 3, "padding": 2},
        ],
    }
    for kind in KINDS:
        if kind == "linear":
            for arguments in ({}, {"bias": False}):
                yield pytest.param(kind, arguments, id=f"linear-{arguments}")
            continue
        for arguments in (*shared, *own[kind.rstrip("123d").rstrip("_")]):
            yield pytest.param(kind, arguments, id=f"{kind}-{arguments}")


def make(kind: str, arguments: dict[str, Any] | None = None) -> tuple[nn.Module, Tensor]:
    """A module of the kind, and an input for it."""
    dims = dims_of(kind)
    if dims == 0:
        return nn.Linear(12, 7, **(arguments or {})), torch.randn(2, 5, 12)
    module = KINDS[kind].original(4, 8, **{"kernel_size": 3, **(arguments or {})})
    return module, torch.randn(2, 4, *SIZES[dims])


def swapped(module: nn.Module, kind: str, choice: Any = "default") -> nn.Module:
    own = copy.deepcopy(module)
    ai3.swap(own, {kind: choice})
    return own


def close(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "arguments"), list(cases()))
def test_forward_and_gradients(kind: str, arguments: dict[str, Any]) -> None:
    module, x = make(kind, arguments)
    own = swapped(module, kind)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [network(x) for network, x in zip((own, module), inputs, strict=True)]
    close(*outputs)
    assert outputs[0].shape == outputs[1].shape
    cotangent = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(cotangent)
    close(inputs[0].grad, inputs[1].grad)
    for (name, actual), expected in zip(own.named_parameters(), module.parameters(), strict=True):
        close(actual.grad, expected.grad, 1e-3), name
    with torch.no_grad():
        close(own(x), outputs[1])
        close(own(x[0]), outputs[1][0])
    with torch.inference_mode():
        close(own(x), outputs[1])


@pytest.mark.parametrize(("kind", "arguments"), list(cases()))
def test_under_torchs_modes(kind: str, arguments: dict[str, Any]) -> None:
    module, x = make(kind, arguments)
    own = swapped(module, kind)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        own(x)
    if arguments.get("groups", 1) == 1:
        assert counted.get_total_flops() > 0
    wanted, tangent = torch.func.jvp(module, (x,), (torch.ones_like(x),))
    actual, moved = torch.func.jvp(own, (x,), (torch.ones_like(x),))
    close(actual, wanted)
    close(moved, tangent)
    stacked = torch.stack([x, 2 * x, x - 1])
    close(torch.vmap(own)(stacked), torch.vmap(module)(stacked))
    fake = copy.deepcopy(own).to("meta")
    assert fake(x.to("meta")).shape == wanted.shape
    with torch.autocast("cpu", torch.bfloat16):
        assert own(x).dtype is torch.bfloat16
        close(own(x).float(), module(x).float(), 5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(kind: str) -> None:
    arguments = {} if kind == "linear" else {"stride": 2, "padding": 1, "groups": 2}
    module, _ = make(kind, arguments)
    own = swapped(module.double(), kind)
    small = {0: (3, 12), 1: (1, 4, 5), 2: (1, 4, 4, 3), 3: (1, 4, 3, 3, 3)}[dims_of(kind)]
    x = torch.randn(small, dtype=torch.float64, requires_grad=True)
    weight = own.weight.detach().clone().requires_grad_()

    def call(x: Tensor, weight: Tensor) -> Any:
        return torch.func.functional_call(own, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(call, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, weight), fast_mode=True)
    with forward_ad.dual_level():
        dual = own(forward_ad.make_dual(x.detach(), torch.ones_like(x)))
        assert forward_ad.unpack_dual(dual).tangent is not None


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_exported(kind: str) -> None:
    module, x = make(kind)
    own = swapped(module, kind)
    compiled = torch.compile(own, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        close(compiled(x), module(x))
    own.zero_grad()
    compiled(x).sum().backward()
    module(x).sum().backward()
    close(own.weight.grad, module.weight.grad, 1e-3)
    exported = torch.export.export(own, (x,)).module()
    close(exported(x), module(x))


@pytest.mark.parametrize(
    ("kind", "algorithm"), [(kind, name) for kind in KINDS for name in algorithms_of(kind)]
)
def test_the_named_algorithm_runs(
    kind: str, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = layer._core.Call

    def recording(op: str, attributes: Any, name: str, module: str = "") -> Any:
        made.append((op, name, module))
        return real(op, attributes, name, module)

    monkeypatch.setattr(layer._core, "Call", recording)
    module, x = make(kind)
    if algorithm == "strassen":
        module, x = nn.Linear(512, 512), torch.randn(512, 512)
    net = nn.Sequential(module)
    if "winograd" in algorithm and dims_of(kind) == 1:
        with pytest.raises(ai3.errors.UnsupportedAlgorithmError, match="the kernel is 1x3"):
            ai3.swap(net, {kind: algorithm})
        return
    with torch.no_grad():
        expected = net(x)
        ai3.swap(net, {kind: algorithm})
        close(net(x), expected, 1e-3)
    assert made == [(ALGORITHMS_OF.get(kind, kind), algorithm, "0")]
    assert module.algorithm == algorithm and f"algorithm={algorithm!r}" in repr(net)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["data", "step", "other"])
def test_never_stale(kind: str, change: str) -> None:
    module, x = make(kind)
    own = swapped(module, kind)
    with torch.no_grad():
        own(x)
        if change == "data":
            for layer in (own, module):
                layer.weight.data.view(-1)[-1] = 5.0
        elif change == "step":
            for layer in (own, module):
                layer.weight.mul_(2)
        else:
            module.weight = own.weight = nn.Parameter(torch.randn_like(own.weight))
        close(own(x), module(x))
        ai3.freeze(own)
        close(own(x), module(x))
        own(x)
        for layer in (own, module):
            layer.weight.add_(1)
        close(own(x), module(x), 1e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("conv")])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_frozen_keeps_what_it_prepared(kind: str, mode: Any) -> None:
    """Else each call would pack the weight anew."""
    module, x = make(kind)
    own = swapped(module, kind, "gemm" if "transpose" in kind else "direct")
    ai3.freeze(own)
    with mode():
        before = own(x)
        own.weight.data.view(-1)[0] += 100.0
        close(own(x), before)
    ai3.unfreeze(own)
    with mode():
        assert (own(x) - before).abs().max() > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(kind: str, dtype: torch.dtype) -> None:
    module, x = make(kind)
    module, x = module.to(dtype), x.to(dtype)
    own = swapped(module, kind)
    actual = own(x)
    assert actual.dtype is dtype
    close(actual.float(), module.float()(x.float()), 1e-6 if dtype is torch.float64 else 5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_restore_and_what_is_kept(kind: str) -> None:
    module, x = make(kind)

    class Own(KINDS[kind].original):  # type: ignore[name-defined, misc]
        pass

    derived = copy.deepcopy(module)
    derived.__class__ = Own
    net = nn.ModuleList([module, derived])
    expected, parameters = module(x), list(net.parameters())
    ai3.swap(net, {kind: "direct"})
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert isinstance(net[1], Own) and type(net[0]) is KINDS[kind]
    for own in (net[0], net[1], copy.deepcopy(net[1]), pickle.loads(pickle.dumps(net[0]))):
        close(own(x), expected)
    names = [(name, algorithm) for name, algorithm, *_ in ai3.swapped(net)]
    assert names == [("0", "direct"), ("1", "direct")]
    ai3.restore(net)
    assert type(net[0]) is KINDS[kind].original and type(net[1]) is Own
    assert vars(net[0]).keys() == vars(make(kind)[0]).keys()
    close(net[1](x), expected)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "transpose" in kind])
def test_output_size(kind: str) -> None:
    module, x = make(kind, {"stride": 2, "padding": 1})
    own, dims = swapped(module, kind), dims_of(kind)
    for added in (0, 1):
        size = [2 * s - 1 + added for s in SIZES[dims]]
        x.requires_grad_()
        close(own(x, output_size=size), module(x, output_size=size))
        grads = [torch.autograd.grad(net(x, size).square().sum(), x)[0] for net in (own, module)]
        close(*grads, 1e-3)
    with pytest.raises(ValueError):
        own(x, output_size=[99] * dims)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
def test_wrong_inputs(kind: str) -> None:
    module, x = make(kind)
    net = nn.Sequential(swapped(module, kind))
    ai3.swap(net, {kind: "direct"})
    for wrong in (x[:, :3], x[0, 0], x[None]):
        with pytest.raises((ValueError, RuntimeError), match="input"):
            net(wrong)


def mixed() -> nn.Module:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(6, 5)
            self.up = nn.ConvTranspose1d(8, 6, 2, stride=2)
            self.middle = nn.Conv1d(8, 8, 3, padding=1)
            self.first = nn.Conv1d(4, 8, 3)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.up(self.middle(self.first(x).relu()).relu()).transpose(1, 2)
            return self.last(x + self.attention(x, x, x)[0])

    return Mixed().eval()


def test_kinds_together_in_the_order_of_a_forward_pass() -> None:
    net, x = mixed(), torch.randn(2, 4, 12)
    expected = net(x)
    seen = []

    def choose(module: nn.Module, shape: tuple[int, ...]) -> str:
        seen.append(shape)
        return "direct"

    algos = {"conv1d": ["smm", "gemm"], "linear": {"last": "direct"}, "conv_transpose1d": choose}
    ai3.swap(net, algos, (2, 4, 12))
    assert seen == [(2, 8, 10)]
    close(net(x), expected)
    assert {name: algorithm for name, algorithm, *_ in ai3.swapped(net)} == {
        "last": "direct",
        "up": "direct",
        "middle": "gemm",
        "first": "smm",
        "attention.out_proj": None,
    }
    ai3.swap(net, {"conv1d": ["direct", "smm"]})
    assert (net.first.algorithm, net.middle.algorithm) == ("direct", "smm")


@pytest.mark.parametrize("sample", [None, (2, 4, 12)])
def test_a_swapped_network_converts(sample: Any) -> None:
    net, x = mixed(), torch.randn(2, 4, 12)
    expected = net(x)
    ai3.swap(net, {"conv1d": "smm", "linear": None, "conv_transpose1d": None})
    model = ai3.swap_backend(net, {"conv1d": "gemm"}, sample)
    close(torch.as_tensor(model(x)), expected)
    assert net.first.algorithm == "smm"
    chosen = {node.algorithm for node in model.graph.nodes if node.op == "conv2d"}
    assert chosen == {"gemm"}


def test_it_trains() -> None:
    nets = [mixed().train() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ai3.swap(nets[0], dict.fromkeys(("conv1d", "conv_transpose1d", "linear")))
    x, y = torch.randn(4, 4, 12), torch.randn(4, 20, 5)
    for net in nets:
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x), y).backward()
            optimizer.step()
    for actual, expected in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        close(actual, expected, 1e-3)


@pytest.mark.parametrize(
    ("algos", "error", "match"),
    [
        ({"conv4d": "direct"}, ValueError, "conv4d.*conv1d"),
        ({"linear": "winograd"}, ai3.errors.SelectionError, "algorithm of linear.*strassen"),
        ("direct", TypeError, "no mapping"),
        ({"conv1d": ["direct"]}, ai3.errors.SelectionError, "2 conv1d modules: first, middle"),
        ({"conv1d": {"lost": "smm"}}, ai3.errors.SelectionError, "no conv1d module.*lost"),
        (
            {"conv1d": "winograd f4", "conv_transpose1d": "winograd"},
            ai3.errors.UnsupportedAlgorithmError,
            "winograd",
        ),
    ],
)
def test_refusals_change_nothing(algos: Any, error: type[Exception], match: str) -> None:
    net = mixed()
    if "conv_transpose1d" in algos:
        net.first = nn.Conv1d(4, 8, 3, stride=2)
    with pytest.raises(error, match=match):
        ai3.swap(net, algos)
    assert not any(type(module) in KINDS.values() for module in net.modules())
    assert ai3.swapped(net) == []


def test_unsupported_names_what_runs_instead() -> None:
    net = nn.Sequential(nn.Conv3d(4, 8, 3, stride=2), nn.Conv3d(8, 8, 3))
    ai3.swap(net, {"conv3d": "winograd"}, unsupported="direct")
    assert [module.algorithm for module in net] == ["direct", "winograd"]
    assert "winograd" in ai3.swapped(net)[0].why


def test_gradients_have_algorithms_of_their_own() -> None:
    for kind in ("conv1d", "conv3d"):
        module, x = make(kind)
        own = swapped(module, kind, ai3.Conv2dAlgorithms("smm", "direct", "direct"))
        x.requires_grad_()
        for net in (own, module):
            net(x).square().sum().backward()
        close(own.weight.grad, module.weight.grad, 1e-3)
        assert "grad_input='direct'" in repr(own)


def test_swap_with_puts_other_modules_in_place() -> None:
    net = mixed()
    seen: list[str] = []

    def replace(module: Any, choice: Any) -> nn.Module:
        seen.append(choice)
        return nn.Identity()

    ai3.swap(net, {"linear": "direct", "conv1d": None}, swap_with=replace)
    assert sorted(seen) == ["default", "default", "direct"]
    assert isinstance(net.last, nn.Identity)
    ai3.restore(net)
    assert isinstance(net.last, nn.Linear)
