"""After `swap_conv2d` a network is still a torch network."""

import copy
import io
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.torch import layer, modules

PADDINGS: list[dict[str, Any]] = [
    {"padding": (1, 2)},
    {"padding": "same", "kernel_size": (4, 2)},
    {"padding": (1, 2), "padding_mode": "reflect"},
    {"padding": (1, 2), "padding_mode": "replicate"},
    {"padding": (1, 2), "padding_mode": "circular"},
    {"padding": "same", "padding_mode": "circular", "kernel_size": (4, 2)},
    {"stride": (2, 1), "dilation": (1, 2), "groups": 2, "bias": False},
]


def small_net(**options: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 8, **{"kernel_size": 3, **options}), nn.ReLU(), nn.Conv2d(8, 3, 1)
    )


@pytest.fixture
def pair() -> tuple[nn.Sequential, nn.Sequential]:
    """A network, and a copy of it with its convolutions swapped."""
    net = small_net(padding=1)
    swapped = copy.deepcopy(net)
    ai3.swap_conv2d(swapped, ["direct", "smm"])
    return net, swapped


def assert_equal_nets(a: nn.Module, b: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(a(x), b(x))


def test_it_is_the_same_object_with_the_same_parameters() -> None:
    net = small_net()
    conv, parameters = net[0], list(net.parameters())
    ai3.swap_conv2d(net, "direct")
    assert net[0] is conv
    assert isinstance(conv, nn.Conv2d)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_the_named_algorithm_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = layer._core.Call

    def recording(op: str, attributes: dict[str, Any], algorithm: str, name: str = "") -> Any:
        made.append((op, algorithm, name))
        return real(op, attributes, algorithm, name)

    monkeypatch.setattr(layer._core, "Call", recording)
    net = small_net()
    ai3.swap_conv2d(net, ["smm", "direct"])
    with torch.no_grad():
        net(torch.randn(1, 4, 6, 6))
    assert made == [("conv2d", "smm", "0"), ("conv2d", "direct", "2")]


def test_repr_shows_the_algorithm_and_swapping_twice_changes_it() -> None:
    net = small_net()
    ai3.swap_conv2d(net, "direct")
    assert "algorithm='direct'" in repr(net[0])
    x = torch.randn(1, 4, 6, 6)
    before = net(x)
    ai3.swap_conv2d(net, "smm")
    assert "algorithm='smm'" in repr(net[0])
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize("grad", [False, True])
def test_trains_as_torch_does(pair: tuple[nn.Module, nn.Module], grad: bool) -> None:
    """Every step changes the weights in place: an old packed copy would show at once."""
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in pair]
    for step in range(4):
        x = torch.randn(2, 4, 7, 9, requires_grad=grad)
        losses = []
        for net, optimizer in zip(pair, optimizers, strict=True):
            net.train()
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            with torch.no_grad():
                net.eval()(x)
        assert losses[0] == pytest.approx(losses[1], rel=1e-4), step
    for a, b in zip(pair[0].parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
        torch.testing.assert_close(a, b)


def changed_in_place(conv: nn.Conv2d) -> Iterator[str]:
    """Ways in which a weight changes between two calls."""
    with torch.no_grad():
        conv.weight.add_(1)
        yield "no_grad"
        conv.weight[0, 0, 0, 0] = 100
        yield "one element"
    with torch.inference_mode():
        conv.weight.mul_(0.5)
        yield "inference_mode"
    conv.load_state_dict({name: torch.randn_like(v) for name, v in conv.state_dict().items()})
    yield "load_state_dict"
    conv.weight.data.mul_(-2)
    yield "data"
    conv.weight.data = torch.randn_like(conv.weight)
    yield "new data"
    conv.weight.data = torch.randn_like(conv.weight)
    yield "new data again"
    conv.weight = nn.Parameter(torch.randn_like(conv.weight))
    yield "new parameter"
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias.fill_(3)
    yield "bias"
    conv.bias = None
    yield "no bias"


@pytest.mark.parametrize("algorithm", ["direct", "smm"])
@pytest.mark.parametrize("inference", [False, True])
def test_a_changed_weight_is_never_answered_with_an_old_copy(
    algorithm: str, inference: bool
) -> None:
    conv = nn.Conv2d(4, 20, 3)
    ai3.swap_conv2d(conv, algorithm)
    x = torch.randn(1, 4, 8, 8)
    mode = torch.inference_mode if inference else torch.no_grad
    with mode():
        conv(x)
    for how in changed_in_place(conv):
        with mode():
            expected = nn.functional.conv2d(x, conv.weight, conv.bias)
            torch.testing.assert_close(conv(x), expected, msg=how, rtol=1e-4, atol=1e-4)


def test_weights_made_in_inference_mode() -> None:
    """torch keeps no version of them, so nothing tells that they changed."""
    with torch.inference_mode():
        conv = nn.Conv2d(4, 20, 3)
        ai3.swap_conv2d(conv, "direct")
        x = torch.randn(1, 4, 8, 8)
        for _ in range(3):
            conv.weight[7, 1, 1, 2] += 1
            expected = nn.functional.conv2d(x, conv.weight, conv.bias)
            torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", PADDINGS, ids=str)
@pytest.mark.parametrize("algorithm", ["direct", "smm"])
def test_gradients(options: dict[str, Any], algorithm: str) -> None:
    conv = nn.Conv2d(4, 2, **{"kernel_size": 3, **options}, dtype=torch.float64)
    ai3.swap_conv2d(conv, algorithm)
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64, requires_grad=True)
    parameters = dict(conv.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(parameters, values, strict=True))
        result: Tensor = torch.func.functional_call(conv, given, (x,))
        return result

    values = tuple(parameters.values())
    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)
    assert torch.autograd.gradcheck(conv, (x[0].detach().requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize("options", PADDINGS, ids=str)
def test_operator_keeps_torchs_contract(options: dict[str, Any]) -> None:
    conv = nn.Conv2d(4, 2, **{"kernel_size": 3, **options})
    ai3.swap_conv2d(conv, "direct")
    assert isinstance(conv, modules.Conv2d)
    for shape in [(2, 4, 6, 7), (4, 6, 7)]:
        x = torch.randn(shape, requires_grad=True)
        torch.library.opcheck(
            torch.ops.ai3.conv2d.default, (x, conv.weight, conv.bias, *conv.config())
        )


def test_compiles_as_one_graph(pair: tuple[nn.Module, nn.Module]) -> None:
    net, swapped = pair
    compiled = torch.compile(swapped, fullgraph=True)
    for shape in [(2, 4, 7, 9), (3, 4, 8, 9)]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), net(x))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))
    compiled(x).sum().backward()
    net(x).sum().backward()
    for a, b in zip(net.parameters(), swapped.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_compiled_inference_sees_changed_weights(pair: tuple[nn.Module, nn.Module]) -> None:
    net, swapped = pair
    compiled = torch.compile(swapped, fullgraph=True)
    x = torch.randn(2, 4, 7, 9)
    with torch.no_grad():
        for _ in range(3):
            for a, b in zip(net.parameters(), swapped.parameters(), strict=True):
                b.copy_(a.mul_(1.5))
            torch.testing.assert_close(compiled(x), net(x))


def test_fake_tensors_and_the_profiler_see_the_operator(pair: tuple[nn.Module, nn.Module]) -> None:
    _, swapped = pair
    x = torch.randn(2, 4, 7, 9)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        assert swapped(torch.empty(5, 4, 7, 9)).shape == (5, 3, 7, 9)
    with torch.profiler.profile() as profile, torch.no_grad():
        swapped(x)
    assert sum(event.count for event in profile.key_averages() if event.key == "ai3::conv2d") == 2


def test_copies_and_pickles(pair: tuple[nn.Module, nn.Module]) -> None:
    net, swapped = pair
    x = torch.randn(2, 4, 7, 9)
    swapped(x)
    saved = io.BytesIO()
    torch.save(swapped, saved)
    saved.seek(0)
    for other in (
        copy.deepcopy(swapped),
        copy.copy(swapped),
        pickle.loads(pickle.dumps(swapped)),
        torch.load(saved, weights_only=False),
    ):
        assert [other[0].algorithm, other[2].algorithm] == ["direct", "smm"]
        assert_equal_nets(other, net, x)


def test_copy_has_weights_of_its_own(pair: tuple[nn.Module, nn.Module]) -> None:
    _, swapped = pair
    x = torch.randn(2, 4, 7, 9)
    expected = swapped(x).detach()
    other = copy.deepcopy(swapped)
    with torch.no_grad():
        other[0].weight.zero_()
        other(x)
        torch.testing.assert_close(swapped(x), expected)


def test_state_dict_round_trip(pair: tuple[nn.Module, nn.Module]) -> None:
    _, swapped = pair
    plain = small_net(padding=1)
    x = torch.randn(2, 4, 7, 9)
    plain.load_state_dict(swapped.state_dict())
    assert_equal_nets(plain, swapped, x)
    other = small_net(padding=1)
    swapped.load_state_dict(other.state_dict())
    assert_equal_nets(other, swapped, x)


def test_hooks_stay() -> None:
    conv = nn.Conv2d(3, 4, 3)
    seen = []
    conv.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    ai3.swap_conv2d(conv, "smm")
    conv(torch.randn(1, 3, 5, 5))
    assert seen == [(1, 4, 3, 3)]


def test_conversion_to_double(pair: tuple[nn.Module, nn.Module]) -> None:
    net, swapped = pair
    x = torch.randn(2, 4, 7, 9)
    swapped(x)
    assert_equal_nets(net.double(), swapped.double(), x.double())


def test_threads_share_a_module(pair: tuple[nn.Module, nn.Module]) -> None:
    net, swapped = pair
    inputs = [torch.randn(2, 4, 5 + i, 9) for i in range(6)]
    expected = [net(x).detach() for x in inputs]
    wrong = []

    def work() -> None:
        with torch.no_grad():
            for _ in range(20):
                for x, y in zip(inputs, expected, strict=True):
                    if not torch.allclose(swapped(x), y, atol=1e-5):
                        wrong.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.randn(1, 5, 6, 6), ValueError, "0: conv2d: input must have 4 channels"),
        (torch.randn(6, 6), ValueError, "0: conv2d: input must be \\(N, 4, H, W\\)"),
        (torch.randn(1, 4, 6, 6).double(), ValueError, "input is float64 but the weights are"),
        (
            torch.ones(1, 4, 6, 6, dtype=torch.int32),
            TypeError,
            r"0: conv2d: the input int32\(1, 4, 6, 6\) must be float32, float64 or bfloat16",
        ),
        (torch.randn(1, 4, 2, 2), ValueError, "the kernel spans 3x3"),
    ],
    ids=["channels", "rank", "dtype", "integers", "too_small"],
)
def test_wrong_input_is_told_with_the_modules_name(
    x: Tensor, error: type[Exception], message: str
) -> None:
    net = small_net()
    ai3.swap_conv2d(net, "direct")
    with torch.no_grad(), pytest.raises(error, match=message):
        net(x)


def test_empty_batch_and_negative_view() -> None:
    conv = nn.Conv2d(3, 4, 3)
    expected = copy.deepcopy(conv)
    ai3.swap_conv2d(conv, "direct")
    assert conv(torch.randn(0, 3, 5, 5)).shape == (0, 4, 3, 3)
    negative = torch.randn(1, 3, 5, 5, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    with torch.no_grad():
        torch.testing.assert_close(conv(negative), expected(negative))
