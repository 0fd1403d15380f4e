"""What users do with a swapped network: list it, restore it, save it, spread it over processes."""

import copy
import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import SelectionError, UnsupportedAlgorithmError
from ai3.torch import modules


class Own(nn.Conv2d):
    """A subclass with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class Plain(nn.Conv2d):
    """A subclass without."""


def mixed() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Plain(4, 4, 3), Own(4, 2, 1))


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_swapped_lists_and_restore_puts_back() -> None:
    net = mixed()
    state = {name: dict(module.__dict__) for name, module in net.named_modules()}
    x = torch.randn(2, 3, 9, 9)
    expected = net(x)
    algorithms = ai3.Conv2dAlgorithms("winograd", "direct", "winograd f2")
    ai3.swap_conv2d(net, {"0": algorithms, "*": "smm"})
    assert ai3.swapped(net) == [
        ("0", "winograd", "chosen for '0'", "direct", "winograd f2"),
        ("1", "smm", "chosen for '*'", "default", "default"),
        ("2", None, "its class Own has a forward of its own", None, None),
    ]
    assert isinstance(net[1], Plain) and isinstance(net[1], modules.Conv2d)
    close(net(x), expected)
    ai3.restore(net)
    assert [type(layer) for layer in net] == [nn.Conv2d, Plain, Own]
    for name, module in net.named_modules():
        assert module.__dict__.keys() == state[name].keys()
    assert torch.equal(net(x), expected)
    assert [layer.algorithm for layer in ai3.swapped(net)] == [None] * 3


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        (None, "nothing was chosen"),
        ("smm", "chosen for all"),
        (["smm", "gemm"], "number 0 of the sequence"),
        ({"1": "smm"}, "not in the mapping"),
        (lambda conv: "smm", "chosen by <lambda>"),
        ("winograd f6", "chosen for all"),
    ],
)
def test_why(selector: Any, why: str) -> None:
    net = mixed()
    ai3.swap_conv2d(net, selector, unsupported="direct")
    assert ai3.swapped(net)[0].why == why


def test_why_another_one() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    ai3.swap_conv2d(net, "winograd", unsupported="direct")
    (layer,) = ai3.swapped(net)
    assert layer.algorithm == "direct"
    assert layer.why.startswith("instead of 'winograd', which cannot do it: the kernel is 1x1")


def test_algorithms_of_gradients_run() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1)
    ai3.swap_conv2d(conv, ai3.Conv2dAlgorithms("smm", "winograd", "winograd f4"))
    assert "grad_weight='winograd f4'" in repr(conv)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    conv(x).sum().backward()
    layer = conv._layer  # type: ignore[operator]
    assert layer.config[-3:] == ("smm", "winograd", "winograd f4")
    with pytest.raises(SelectionError, match=r"conv2d_grad_weight.*'smm' is unknown"):
        ai3.swap_conv2d(conv, ai3.Conv2dAlgorithms("smm", "smm", "smm"))
    strided = nn.Conv2d(4, 6, 3, stride=2)
    with pytest.raises(UnsupportedAlgorithmError, match=r"'winograd': .*strides the kernel is"):
        ai3.swap_conv2d(strided, ai3.Conv2dAlgorithms(grad_input="winograd"))
    with pytest.raises(UnsupportedAlgorithmError, match="'winograd': the stride is above 1"):
        ai3.swap_conv2d(strided, ai3.Conv2dAlgorithms(grad_weight="winograd"))


class Wrapped(nn.Module):
    def __init__(self, original: nn.Conv2d, algorithm: str) -> None:
        super().__init__()
        self.original, self.algorithm = original, algorithm

    def forward(self, x: Tensor) -> Tensor:
        return self.original(x)


def test_swap_with() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Conv2d(3, 2, 1)))
    x = torch.randn(1, 3, 6, 6)
    expected = net(x)
    ai3.swap_conv2d(net, ["smm", "direct"], swap_with=Wrapped)
    assert isinstance(net[0], Wrapped) and net[0] is net[2][0] and net[0].original is shared
    listed = [(layer.name, layer.algorithm) for layer in ai3.swapped(net)]
    assert ("0", "smm") in listed and ("2.1", "direct") in listed
    assert torch.equal(net(x), expected)
    ai3.restore(net)
    assert net[0] is shared and net[2][0] is shared and type(net[2][1]) is nn.Conv2d
    with pytest.raises(SelectionError, match="the network that holds it"):
        ai3.swap_conv2d(shared, swap_with=Wrapped)
    with pytest.raises(TypeError, match=r"must make a torch\.nn\.Module, but of 0 it made str"):
        ai3.swap_conv2d(net, swap_with=lambda conv, algorithm: algorithm)  # type: ignore[arg-type, return-value]
    assert net[0] is shared


def test_lazy_modules_are_refused() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(UnsupportedAlgorithmError, match=r"0: .*it is lazy: run the network once"):
        ai3.swap_conv2d(net)
    net(torch.randn(1, 2, 5, 5))
    ai3.swap_conv2d(net, "direct")
    assert ai3.swapped(net)[0].algorithm == "direct"


def test_quantised_and_far_modules_are_left_alone() -> None:
    quantized = pytest.importorskip("torch.ao.nn.quantized")
    net = nn.Sequential(
        quantized.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, device="meta"), nn.Conv2d(4, 4, 3)
    )
    ai3.swap_conv2d(net, ["direct"])
    assert [(layer.algorithm, layer.why) for layer in ai3.swapped(net)] == [
        (None, "it is quantised"),
        (None, "its weights are on meta, where nothing of ai3 runs"),
        ("direct", "number 0 of the sequence"),
    ]


def test_swapped_networks_go_to_meta_and_back() -> None:
    net = mixed()
    ai3.swap_conv2d(net)
    assert net.to("meta")(torch.empty(2, 3, 9, 9, device="meta")).shape == (2, 2, 5, 5)


def test_state_without_pickled_code() -> None:
    net, other = mixed(), mixed()
    ai3.swap_conv2d(net)
    saved = io.BytesIO()
    torch.save(net.state_dict(), saved)
    saved.seek(0)
    other.load_state_dict(torch.load(saved, weights_only=True))
    x = torch.randn(2, 3, 9, 9)
    close(other(x), net(x))


def test_whole_modules_of_any_class() -> None:
    net = mixed()
    ai3.swap_conv2d(net, "direct")
    x = torch.randn(2, 3, 9, 9)
    expected = net(x)
    saved = io.BytesIO()
    torch.save(net, saved)
    saved.seek(0)
    for other in (copy.deepcopy(net), torch.load(saved, weights_only=False)):
        assert [type(layer) for layer in other] == [type(layer) for layer in net]
        close(other(x), expected)


class Features(torch.utils.data.Dataset[Tensor]):
    """What workers compute with the network."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.net(torch.full((3, 32, 32), float(index)))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader(start: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
    ai3.swap_conv2d(net)
    net.share_memory()
    data = Features(net)
    expected = torch.stack([data[i] for i in range(4)])
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=2, multiprocessing_context=start, timeout=60
    )
    (batch,) = loader
    close(batch, expected)


def test_data_parallel_runs_on_the_cpu_as_torchs_does() -> None:
    net = mixed()
    x = torch.randn(2, 3, 9, 9)
    expected = net(x)
    ai3.swap_conv2d(net)
    close(nn.DataParallel(net)(x), expected)


def test_a_network_may_live_as_long_as_the_interpreter() -> None:
    code = """
import torch, ai3
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
ai3.swap_conv2d(network)
network(torch.randn(1, 3, 8, 8)).sum().backward()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""
