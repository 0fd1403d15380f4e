"""Attention with masks and grouped heads, torch's transformer layers, options of forward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3.torch.capture import capture
from ai3.torch.export import ExportTrace
from ai3.torch.trace import Trace


class Heads(nn.Module):
    """Attention of 4 heads of queries over `heads` of keys and values, as `mix` does it."""

    def __init__(self, mix: Callable[..., Tensor], heads: int = 4) -> None:
        super().__init__()
        self.mix, self.heads = mix, heads
        self.q, self.k = nn.Linear(16, 32), nn.Linear(16, 8 * heads)

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        q = self.q(x).view(batch, length, 4, 8).transpose(1, 2)
        k = self.k(x).view(batch, length, self.heads, 8).transpose(1, 2)
        return self.mix(x, q, k)


class Calls(nn.Module):
    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.module, x)


def encoder(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(16, 4, 32, **options)


CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDING = torch.tensor([[False] * 5, [False, False, False, True, True]])
ADDED = nn.Transformer.generate_square_subsequent_mask(5)
ATTENTION = F.scaled_dot_product_attention
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "constant truth": lambda: Heads(lambda x, q, k: ATTENTION(q, k, k, attn_mask=~CAUSAL)),
    "computed truth": lambda: Heads(
        lambda x, q, k: ATTENTION(q, k, k, attn_mask=(x.sum(-1) > 0)[:, None, None, :] | ~CAUSAL)
    ),
    "computed addend": lambda: Heads(
        lambda x, q, k: ATTENTION(q, k, k, attn_mask=x.sum(-1)[:, None, None, :])
    ),
    "grouped heads": lambda: Heads(lambda x, q, k: ATTENTION(q, k, k, enable_gqa=True), 2),
    "multihead with masks": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True),
        lambda m, x: m(x, x, x, key_padding_mask=PADDING, attn_mask=CAUSAL, need_weights=False)[0],
    ),
    "multihead with an added mask": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True, kdim=16, vdim=16),
        lambda m, x: m(x, x * 2, x, attn_mask=ADDED, need_weights=False)[0],
    ),
    "multihead with a mask for each head": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True),
        lambda m, x: m(x, x, x, attn_mask=ADDED.repeat(8, 1, 1), need_weights=False)[0],
    ),
    "attention with learned keys": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True, add_bias_kv=True),
        lambda m, x: m(x, x, x, need_weights=False)[0],
    ),
    "attention with learned keys and zeros": lambda: Calls(
        nn.MultiheadAttention(16, 4, add_bias_kv=True, add_zero_attn=True, kdim=16, vdim=16),
        lambda m, x: m(x, x * 2, x, attn_mask=ADDED[:2, :2], need_weights=False)[0],
    ),
    "attention with zeros and masks": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True, add_zero_attn=True),
        lambda m, x: m(x, x, x, key_padding_mask=PADDING, attn_mask=CAUSAL, need_weights=False)[0],
    ),
    "attention with all of it": lambda: Calls(
        nn.MultiheadAttention(16, 4, batch_first=True, add_bias_kv=True, add_zero_attn=True),
        lambda m, x: m(
            x, x, x, attn_mask=CAUSAL.repeat(8, 1, 1), key_padding_mask=PADDING, need_weights=False
        )[0],
    ),
    "encoder layer": lambda: encoder(batch_first=True),
    "encoder layer, sequence first": lambda: encoder(norm_first=True, activation="gelu"),
    "encoder": lambda: nn.TransformerEncoder(
        encoder(batch_first=True), 2, norm=nn.LayerNorm(16), enable_nested_tensor=False
    ),
    "encoder with masks": lambda: Calls(
        nn.TransformerEncoder(encoder(batch_first=True), 2, enable_nested_tensor=False),
        lambda m, x: m(x, mask=ADDED, src_key_padding_mask=PADDING.float() * -1e9),
    ),
    "decoder": lambda: Calls(
        nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2),
        lambda m, x: m(x, x * 2, tgt_mask=ADDED),
    ),
    "decoder layer": lambda: Calls(
        nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, norm_first=True),
        lambda m, x: m(x, x * 2),
    ),
    "normalize": lambda: Calls(nn.Linear(16, 16), lambda m, x: F.normalize(m(x))),
    "normalize by another norm": lambda: Calls(
        nn.Linear(16, 16), lambda m, x: F.normalize(m(x), p=1.0, dim=-1)
    ),
}


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_torch(name: str, tracing: str) -> None:
    net, x = NETWORKS[name]().eval(), torch.randn(2, 5, 16)
    if tracing == "export" and ("coder" in name or "multihead" in name):
        pytest.skip("torch.export takes these apart into what is tested by itself")
    trace = Trace(net) if tracing == "fx" else ExportTrace(net, x.shape)
    model = ai3.Model.from_graph(capture(trace).graph)
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


class Options(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, twice: bool = False, scale: float = 0.5
    ) -> Tensor:
        y = self.linear(x) * scale
        if mask is not None:
            y = y + mask
        return y * 2 if twice else y


@pytest.mark.parametrize("unsupported", ["raise", "torch"])
def test_options_of_forward_are_no_inputs(unsupported: str) -> None:
    net, x = Options().eval(), torch.randn(2, 5, 16)
    model = ai3.swap_backend(net, unsupported=unsupported)
    assert model.graph.inputs == ("x",)
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x))


def test_the_first_argument_is_an_input_whatever_its_default() -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor | None = None, shift: Tensor | None = None) -> Any:
            return torch.relu(x)  # type: ignore[arg-type]

    x = torch.randn(3)
    assert torch.equal(ai3.swap_backend(Optional())(x), torch.relu(x))


@pytest.mark.parametrize("index", [0, 1, -1, -2])
def test_pieces_are_counted_from_the_last_too(index: int) -> None:
    net = Calls(
        nn.Linear(16, 16),
        lambda m, x: (torch.split(m(x), 2, 1)[index], x.unbind(1)[index], x.chunk(2, 2)[index]),
    ).eval()
    model = ai3.swap_backend(net)
    for length in (5, 4, 7):
        x = torch.randn(2, length, 16)
        with torch.no_grad():
            torch.testing.assert_close(model(x), net(x))
