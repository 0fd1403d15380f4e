"""Networks of several inputs, of which some are integers or truth values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3.errors import UnsupportedCallableError
from ai3.torch.capture import capture
from ai3.torch.export import ExportTrace
from ai3.torch.trace import Trace


class Embeds(nn.Module):
    """What is looked up, and what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(11, 6), nn.Linear(6, 6)

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        return self.linear(self.table(ids.view(ids.shape[0], -1)) + self.linear(x))


class Masks(nn.Module):
    """Ids, and integers that are compared and converted, as transformers do with masks."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.attention = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.table(ids) * (ids != 3).unsqueeze(-1)
        added = (1.0 - mask.to(x.dtype)) * -10000.0
        scores = x @ x.transpose(1, 2) + added[:, None, :]
        shares = (mask == 1).float().sum(1).reciprocal()
        return F.softmax(scores, -1) @ x * shares[:, None, None]


class Steps(nn.Module):
    """Ho et al., arXiv 2006.11239: an image and the time step that it is at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 8)
        self.register_buffer("freqs", torch.exp(-torch.arange(4.0)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * self.freqs + (t.float() ** -1)[:, None]
        embedded = self.linear(torch.cat([angles.sin(), angles.cos()], -1))
        return self.conv(x) * embedded[:, :, None, None] + t.float().mean()


class Truth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor, padding: Tensor) -> Any:
        y, _ = self.attention(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)
        return y.masked_fill(padding[:, :, None], 0.0), ~mask, padding.sum(1)


def ids(*shape: int) -> Tensor:
    return torch.randint(1, 11, shape)


CASES: dict[str, tuple[type[nn.Module], Any]] = {
    "looked up": (Embeds, lambda n: (ids(n, 4), torch.randn(n, 4, 6))),
    "masks": (
        Masks,
        lambda n: (ids(n, 5), torch.randint(0, 2, (n, 5)).index_fill(1, ids(1) % 5, 1)),
    ),
    "time steps": (Steps, lambda n: (torch.randn(n, 3, 6, 5), ids(n))),
    "truth values": (
        Truth,
        lambda n: (torch.randn(n, 5, 8), torch.ones(5, 5).triu(1).bool(), torch.eye(n, 5).bool()),
    ),
}


@pytest.mark.parametrize("tracing", ["fx", "export", "swap_backend", "shapes"])
@pytest.mark.parametrize("name", CASES)
def test_several_dtypes(name: str, tracing: str) -> None:
    kind, sample = CASES[name]
    net, given = kind().eval(), sample(2)
    if tracing in ("swap_backend", "shapes"):
        shapes = given if tracing == "swap_backend" else [x.shape for x in given]
        if tracing == "shapes" and name == "truth values":
            with pytest.raises(UnsupportedCallableError, match="an array like it"):
                ai3.swap_backend(net, sample_input_shape=shapes)
            return
        model = ai3.swap_backend(net, sample_input_shape=shapes)
    else:
        trace = Trace(net, given) if tracing == "fx" else ExportTrace(net, given)
        model = ai3.Model.from_graph(capture(trace).graph)
    for n in (1, 2, 3):
        given = sample(n)
        with torch.no_grad():
            actual, expected = model(*given), net(*given)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["looked up", "masks", "time steps"])
def test_nothing_is_said(name: str) -> None:
    kind, sample = CASES[name]
    net, given = kind().eval(), sample(3)
    with torch.no_grad():
        torch.testing.assert_close(ai3.swap_backend(net)(*given), net(*given), rtol=1e-4, atol=1e-4)


def test_torch_export_finds_out_which_are_integers() -> None:
    class Stubborn(Embeds):
        def forward(self, ids: Tensor, x: Tensor) -> Tensor:
            return super().forward(ids, x) if x.shape[0] else x

    net = Stubborn().eval()
    model = ai3.swap_backend(net, sample_input_shape=((2, 4), (2, 4, 6)))
    given = ids(3, 4), torch.randn(3, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(*given), net(*given), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match=r"the input ids is float32.*converted for integer"):
        model(given[1][..., 0], given[1])


def test_a_mask_of_unknown_type_is_never_added_as_numbers() -> None:
    class Padded(Truth):
        def forward(self, x: Tensor, mask: Tensor, padding: Tensor) -> Any:
            return self.attention(
                x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False
            )[0]

    net, given = Padded().eval(), CASES["truth values"][1](2)
    model = ai3.swap_backend(net)
    with pytest.raises(TypeError, match=r"bool, where the network .* an array like it"):
        model(*given)
    numbers = given[0], *(mask.float() * -9 for mask in given[1:])
    with torch.no_grad():
        torch.testing.assert_close(model(*numbers), net(*numbers), rtol=1e-4, atol=1e-5)


class Typed(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        return (x * 2.5).to(y.dtype), torch.zeros_like(y), y.new_ones(2)


def test_a_type_that_is_read_must_be_known(tmp_path: Path) -> None:
    x, y = torch.randn(3), torch.arange(3)
    for given in (y, y.int(), y > 0):
        model = ai3.swap_backend(Typed(), sample_input_shape=(x, given))
        torch.testing.assert_close(model(x, given), Typed()(x, given))
    model = ai3.swap_backend(Typed())
    torch.testing.assert_close(model(x, x), Typed()(x, x))
    model.save(tmp_path / "model")
    for each in (model, ai3.load(tmp_path / "model")):
        with pytest.raises(TypeError, match="the input y is int64"):
            each(x, y)
    torch.testing.assert_close(model(x, x), Typed()(x, x))


def test_arrays_of_any_kind_are_samples() -> None:
    net = Steps().eval()
    x, t = torch.randn(1, 3, 6, 5), ids(1)
    model = ai3.swap_backend(net, sample_input_shape=[np.zeros((2, 3, 6, 5), "f"), t.numpy()])
    with torch.no_grad():
        torch.testing.assert_close(model(x, t), net(x, t))
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    smm = ai3.swap_backend(net, {"conv2d": lambda conv, shape: "smm"}, sample_input_shape=x)
    torch.testing.assert_close(smm(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    ai3.swap_conv2d(net, lambda conv, shape: "smm", x)
    assert [row[1] for row in ai3.swapped(net)] == ["smm"]


def test_the_compiler_knows_what_inputs_are() -> None:
    net, x = Typed(), torch.randn(3)
    compiled = torch.compile(net, backend="ai3")
    with torch.no_grad():
        for y in (torch.arange(3), x > 0):
            torch.testing.assert_close(compiled(x, y), net(x, y))
