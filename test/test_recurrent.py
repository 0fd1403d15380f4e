"""Recurrent layers and cells inside networks, by both tracings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3

from .compare import converted

both_ways = pytest.mark.parametrize("tracing", ["fx", "export"])
LAYERS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "lstm with projection": lambda *sizes, **options: nn.LSTM(*sizes, proj_size=5, **options),
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers both ways": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "both ways without bias": {"bidirectional": True, "bias": False},
    "three layers": {"num_layers": 3, "batch_first": True, "dropout": 0.5},
}


class Reads(nn.Module):
    """A layer; with `given` the states before the first step are computed."""

    def __init__(self, layer: nn.RNNBase, given: bool) -> None:
        super().__init__()
        self.layer, self.given = layer, given

    def forward(self, x: Tensor) -> Any:
        if not self.given:
            output, last = self.layer(x)
            return output, last
        ways = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
        n = x.shape[0 if self.layer.batch_first else 1]
        sizes = [self.layer.proj_size or self.layer.hidden_size, self.layer.hidden_size]
        states = [x.mean() + torch.ones(ways, n, size) for size in sizes]
        output, last = self.layer(
            x, tuple(states) if isinstance(self.layer, nn.LSTM) else states[0]
        )
        return output, last


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind: str, options: str, given: bool, tracing: str) -> None:
    layer = LAYERS[kind](6, 19, **OPTIONS[options])
    converted(Reads(layer, given).eval(), torch.randn(4, 7, 6), tracing)


@pytest.mark.parametrize("kind", LAYERS)
def test_one_sequence(kind: str) -> None:
    for options in ({}, {"batch_first": True, "bidirectional": True}):
        converted(Reads(LAYERS[kind](6, 19, **options), False).eval(), torch.randn(7, 6), "fx")


@both_ways
@pytest.mark.parametrize(
    "cell",
    [nn.LSTMCell(6, 19), nn.GRUCell(6, 19), nn.RNNCell(6, 19, nonlinearity="relu", bias=False)],
    ids=str,
)
def test_cells(cell: nn.RNNCellBase, tracing: str) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Tensor) -> Any:
            state = self.cell(x[:, 0])
            state = self.cell(x[:, 1], state)
            return self.cell(x[:, 2], state)

    converted(Steps().eval(), torch.randn(4, 3, 6), tracing)


def test_what_is_random_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout between layers"):
        ai3.swap_backend(nn.LSTM(4, 4, 2, dropout=0.5))
