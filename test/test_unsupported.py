"""What the framework does not have: refused with its place, or run by torch inside the model."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import UnsupportedCallableError, UntraceableError


class Net(nn.Module):
    """Two islands of torch, one with a shape in it, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.mix = nn.Bilinear(4, 4, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.conv(x))
        sums = torch.cumsum(y, dim=1)
        indices = torch.argsort(sums, 3)
        picked = torch.gather(sums, 3, indices % x.shape[3])
        rows = picked.flatten(2).transpose(1, 2)
        steps = self.mix(rows, torch.fft.fft(rows).real)
        z = self.last(steps.transpose(1, 2).reshape(y.shape))
        return torch.relu(z), torch.relu(y)


def test_torch_runs_the_rest() -> None:
    net = Net().eval()
    with pytest.raises(UnsupportedCallableError, match="mix"):
        ai3.swap_backend(net)
    model = ai3.swap_backend(net, {"conv2d": "smm"}, unsupported="torch")
    for shape in ((2, 3, 5, 4), (1, 3, 2, 7)):
        x = torch.randn(shape)
        before = x.clone()
        with torch.no_grad():
            expected = net(x)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(x, before)
    numpy = model(x.numpy())
    assert type(numpy[0]) is np.ndarray
    np.testing.assert_allclose(numpy[0], expected[0], rtol=1e-4, atol=1e-5)
    assert type(model.predict(x)[0]) is ai3.Tensor

    rows = model.report(x).nodes
    foreign = [row.name for row in rows if row.algorithm == "torch"]
    assert "mix" in foreign
    assert any("test_unsupported.py" in name for name in foreign)
    assert {row.algorithm for row in rows if row.op == "conv2d"} == {"smm"}


def test_copies_of_mixed_models() -> None:
    model = ai3.swap_backend(Net().eval(), unsupported="torch")
    x = torch.randn(1, 3, 4, 4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(x), model(x))


def test_a_mixed_model_is_not_saved(tmp_path: Path) -> None:
    model = ai3.swap_backend(Net().eval(), unsupported="torch")
    with pytest.raises(ValueError, match=r"mix.*pickle it instead"):
        model.save(tmp_path / "net")


def test_what_works_in_place_does_so_on_a_copy() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.lgamma_()
            return torch.relu(x) + y

    x = torch.randn(2, 3)
    before = x.clone()
    result = ai3.swap_backend(InPlace(), unsupported="torch")(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(result, InPlace()(x.clone()))


def test_torch_stays_away_where_nothing_is_foreign() -> None:
    code = """
import pickle, sys, torch, ai3
model = ai3.swap_backend(torch.nn.Conv2d(3, 4, 3), unsupported="torch")
import subprocess
reader = "import pickle, sys; pickle.load(sys.stdin.buffer); assert 'torch' not in sys.modules"
subprocess.run([sys.executable, "-c", reader], input=pickle.dumps(model), check=True)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_view_that_is_overwritten_is_refused_where_it_is_read_later() -> None:
    class Through(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + x
            torch.relu_(y.flatten(1))
            return y

    class Before(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + x
            z = torch.relu(y.flatten(1))
            torch.relu_(z)
            return z

    with pytest.raises(UnsupportedCallableError, match="a view is read later"):
        ai3.swap_backend(Through())
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(ai3.swap_backend(Before())(x), Before()(x))


def test_random_numbers_are_not_frozen() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x + torch.rand(3)

    before = torch.get_rng_state()
    with pytest.raises(UntraceableError, match="random"):
        ai3.swap_backend(Noise())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_users_parameters_are_never_changed() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x + self.calls

    net = Counter()
    with pytest.raises(UntraceableError, match="assigns calls"):
        ai3.swap_backend(net)
    assert type(net.calls) is Tensor
    assert net.calls == 0

    class Method(Counter):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.calls.add_(1)

    net = Method()
    with pytest.raises(UnsupportedCallableError, match="each call changes the next"):
        ai3.swap_backend(net)
    assert net.calls == 0


class Unrolled(nn.Module):
    """What values decide, after a convolution; a tuple and a number come out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        steps = 0
        while y.abs().max() > 1:
            y, steps = y / 2, steps + 1
        return {"y": (y, y.sum()), "steps": steps}


@pytest.mark.parametrize("sample", [None, (1, 3, 8, 8)])
def test_torch_runs_what_cannot_be_traced(sample: Any) -> None:
    net, x = Unrolled().eval(), torch.randn(2, 3, 8, 8) * 9
    with pytest.raises(UntraceableError):
        ai3.swap_backend(net, sample_input_shape=sample)
    model = ai3.swap_backend(net, {"conv2d": "smm"}, sample, unsupported="torch")
    for each in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        with torch.no_grad():
            torch.testing.assert_close(each(x), net(x), rtol=1e-4, atol=1e-5)
    assert type(model(x.numpy())["y"][0]) is np.ndarray
    assert type(model.predict(x)["y"][1]) is ai3.Tensor
    assert "Unrolled" in str(model.report(x))
    assert type(net.conv) is nn.Conv2d
    with pytest.raises(ai3.errors.SelectionError):
        ai3.swap_backend(net, {"conv2d": {"other": "smm"}}, sample, unsupported="torch")


def test_exported_operators_that_torch_runs_are_pickled() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Any:
            if x.shape[0] > 100:
                return x, None
            return torch.fft.fft(torch.relu(x)).real + 1, None

    x = torch.randn(3, 4)
    model = ai3.swap_backend(Branches(), sample_input_shape=(3, 4), unsupported="torch")
    for each in (model, pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(each(x), Branches()(x))


def test_outputs_that_are_no_tensors(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"x": torch.relu(x), "loss": None, "more": (1, "two", [0.5])}

    x = torch.randn(2, 3)
    model = ai3.swap_backend(Plain())
    model.save(tmp_path / "net")
    for each in (model, ai3.load(tmp_path / "net")):
        result = each(x)
        assert torch.equal(result.pop("x"), torch.relu(x))
        assert result == {"loss": None, "more": (1, "two", [0.5])}
