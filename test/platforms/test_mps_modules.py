"""Networks on Apple's platform: on devices of the tests', with the kernels compiled for this
processor."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import UnsupportedAlgorithmError
from ai3.platforms import register, unregister
from ai3.platforms.mps import Mps, shaders
from test.platforms import device, metal, mpstest

pytestmark = pytest.mark.skipif(not metal.has_compiler(), reason="needs g++")

LAUNCHED = metal.LAUNCHED
WAITED = "synchronize"


class Here(Mps):
    """The platform for the tests' devices."""

    name = "mps here"
    device = "mirror"
    absent = ""

    def missing(self) -> str:
        return self.absent


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(torch.mps, "compile_shader", metal.Library)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: LAUNCHED.append(WAITED))
    LAUNCHED.clear()
    with device.available():
        platform = Here()
        register(platform)
        yield platform
        unregister(platform.name)
    shaders.library.cache_clear()


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(6, 5, (3, 1), stride=(2, 1), padding="valid"),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


def trained(module: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Outputs and parameters over three steps of training."""
    target = torch.linspace(-1, 1, 4).to(images)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    found = []
    for _ in range(3):
        module.zero_grad()
        y = module(images)
        (y - target).square().mean().backward()
        optimizer.step()
        found.append(y.detach().cpu())
    return [*found, *(p.detach().cpu().clone() for p in module.parameters())]


@pytest.mark.parametrize("algorithm", ["metal", "implicit gemm", "default"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_training_takes_the_same_steps(algorithm: str, layout: torch.memory_format) -> None:
    images = torch.randn(3, 3, 9, 8)
    module = network()
    module(images)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    expected = trained(module, images)
    module.load_state_dict(state)
    module.to("mirror", memory_format=layout)
    chosen = ai3.Conv2dAlgorithms(algorithm, algorithm, algorithm)
    ai3.swap(module, {"conv2d": chosen, "conv_transpose2d": algorithm})
    actual = trained(module, images.to("mirror", memory_format=layout))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)
    if algorithm != "default":
        assert LAUNCHED.count("grad_weight") == 3 * 3
        assert len(LAUNCHED) >= 3 * (4 + 2 + 3)  # forward, gradients by input and by weight


@pytest.mark.parametrize(
    ("algorithm", "kernel"),
    [
        ("direct", "direct"),
        ("smm", "smm"),
        ("winograd", "winograd_product"),
        ("winograd f4", "winograd_output_4"),
        ("implicit precomp gemm", "implicit_precomp_gemm"),
        ("mps", None),
        ("guess", None),  # stands for "mps" here
    ],
)
def test_the_named_kernel_runs(algorithm: str, kernel: str | None) -> None:
    conv = nn.Conv2d(5, 12, 3, padding=1)
    x = torch.randn(2, 5, 10, 11)
    expected = conv(x)
    conv.to("mirror")
    ai3.swap_conv2d(conv, algorithm, x.shape)
    with torch.no_grad():
        torch.testing.assert_close(conv(x.to("mirror")).cpu(), expected, rtol=1e-4, atol=1e-4)
        assert (kernel in LAUNCHED) if kernel else not LAUNCHED
        conv.weight.mul_(2)
        again = (expected - conv.bias.cpu()[:, None, None]) * 2 + conv.bias.cpu()[:, None, None]
        torch.testing.assert_close(conv(x.to("mirror")).cpu(), again, rtol=1e-4, atol=1e-4)


def test_half_precision_is_computed_as_such() -> None:
    conv = nn.Conv2d(6, 9, 3, padding=1).half()
    x = torch.randn(2, 6, 12, 9).half()
    expected = nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    conv.to("mirror")
    for algorithm in ("direct", "smm", "winograd f4", "implicit gemm"):
        ai3.swap_conv2d(conv, algorithm)
        y = conv(x.to("mirror"))
        assert y.dtype is torch.float16
        assert (y.cpu().double() - expected).abs().max() < 4e-3, algorithm


@pytest.mark.parametrize("name", ["mps", "metal"])
def test_elsewhere_they_are_refused_with_the_device_that_they_need(name: str) -> None:
    conv = nn.Conv2d(3, 3, 3)
    with pytest.raises(UnsupportedAlgorithmError, match=f"'{name}': it runs on .*, not on cpu"):
        ai3.swap_conv2d(conv, name)
    assert type(conv) is nn.Conv2d


def test_a_refusal_names_the_layer_and_changes_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5, stride=2)).to("mirror")
    with pytest.raises(
        UnsupportedAlgorithmError, match=r"1: 'winograd': .*kernels of 3x3, not 5x5"
    ):
        ai3.swap_conv2d(net, "winograd")
    assert all(type(layer) is nn.Conv2d for layer in net)


def test_this_machine_says_why_it_has_none() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    rows = {row.name: row for row in ai3.platforms()}
    assert not ai3.using_mps_and_metal()
    assert "MPS" in rows["mps"].reason


class Residual(nn.Module):
    """Convolutions that a sum and activations follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.first(x)))
        y = nn.functional.silu(self.second(y) + y)
        scores: torch.Tensor = self.head(y.mean((2, 3)))
        return scores


@pytest.mark.parametrize("algorithm", ["direct", "smm", "winograd", "implicit gemm", "mps"])
def test_models_add_and_activate_in_the_kernel(algorithm: str) -> None:
    module, x = Residual().eval(), torch.randn(2, 3, 10, 9)
    with torch.no_grad():
        expected = module(x)
    model = ai3.swap_backend(module.to("mirror"), {"conv2d": algorithm}, x.shape)
    LAUNCHED.clear()
    y = model(x.to("mirror"))
    assert y.device.type == "mirror"
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-4, atol=1e-5)
    each = {"mps": 0, "winograd": 3}.get(algorithm, 1)
    assert len([name for name in LAUNCHED if "filter" not in name]) == 2 * each
    nodes = model.graph_for(x.to("mirror")).nodes
    assert [node.op for node in nodes if node.op in ("conv2d", "add", "silu")] == ["conv2d"] * 2


def test_profiles_wait_for_each_kernel() -> None:
    module, x = Residual().eval().to("mirror"), torch.randn(2, 3, 10, 9).to("mirror")
    model = ai3.swap_backend(module, {"conv2d": "direct"}, x.shape)
    steps = model.profile(x, repeat=1)
    waits = [i for i, name in enumerate(LAUNCHED) if name == WAITED]
    timed = LAUNCHED[waits[0] : waits[-1] + 1]
    assert timed.count("direct") == 2 and timed.count(WAITED) == len(steps) + 1
    assert [after for name, after in pairwise(timed) if name == "direct"] == [WAITED] * 2


def test_the_run_for_those_who_have_one(
    here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    arguments = ["--device", "mirror", "--cases", "same_", "--networks", "", "--seconds", "0"]
    assert mpstest.main([*arguments, "--json", str(path)]) == 0, capsys.readouterr().out
    found = json.loads(path.read_text())
    assert {row["algorithm"] for row in found["kernels"]} >= {"mps", "metal", "smm", "winograd"}
    assert len(found["training"]) == 8
    here.absent = "it is elsewhere"
    assert mpstest.main(arguments) == 2
    assert "nothing to test: it is elsewhere" in capsys.readouterr().err
