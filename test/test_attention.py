"""Attention as plain graph: modules, functions, and what is written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3


def ops(model: ai3.Model) -> list[str]:
    return [node.op for node in model.graph.nodes if node.op != "constant"]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_multihead_attention(batch_first: bool, bias: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.MultiheadAttention(12, 3, batch_first=batch_first, bias=bias)
            self.cross = nn.MultiheadAttention(12, 4, batch_first=batch_first, bias=bias)
            self.other = nn.MultiheadAttention(
                12, 2, batch_first=batch_first, bias=bias, kdim=5, vdim=7
            )

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            own, _ = self.own(x, x, x, need_weights=False)
            cross, _ = self.cross(own, y, y)
            other, _ = self.other(cross, y[..., :5], y[..., 5:])
            return other

    net = Attention().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    model = ai3.swap_backend(net)
    for n, length in ((2, 5), (3, 4)):
        shape = (n, length, 12) if batch_first else (length, n, 12)
        x, y = torch.randn(shape), torch.randn(shape)
        with torch.no_grad():
            expected = net(x, y)
        torch.testing.assert_close(model(x, y), expected, rtol=1e-4, atol=1e-4)
    assert ops(model).count("scaled_dot_product_attention") == 3


@pytest.mark.parametrize(
    "written",
    [
        lambda q, k, v, m: F.softmax(q @ k.transpose(-2, -1) * 0.3 + m, -1) @ v,
        lambda q, k, v, m: torch.softmax(m + torch.matmul(q * 0.3, k.transpose(-1, -2)), -1) @ v,
        lambda q, k, v, m: (q @ (k * 2.0).permute(0, 1, 3, 2)).softmax(-1) @ v,
        lambda q, k, v, m: torch.einsum(
            "b h i j, b h j d -> b h i d",
            F.softmax(torch.einsum("b h i d, b h j d -> b h i j", q, k * 0.3) + m, dim=-1),
            v,
        ),
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
    ],
)
def test_attention_that_is_written_out_is_one_operation(written) -> None:  # type: ignore[no-untyped-def]
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = nn.Parameter(torch.randn(3, 4, 5))

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return written(q, k, v, self.mask)  # type: ignore[no-any-return]

    net = Written()
    q, k, v = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 7)
    model = ai3.swap_backend(net)
    with torch.no_grad():
        torch.testing.assert_close(model(q, k, v), net(q, k, v), rtol=1e-4, atol=1e-5)
    assert ops(model) == ["scaled_dot_product_attention"]


def test_scores_that_are_read_elsewhere_stay() -> None:
    class Both(nn.Module):
        def forward(self, q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            weights = F.softmax(q @ q.transpose(-2, -1), -1)
            return weights @ v, weights

    q, v = torch.randn(2, 4, 6), torch.randn(2, 4, 3)
    model = ai3.swap_backend(Both())
    torch.testing.assert_close(model(q, v), Both()(q, v), rtol=1e-4, atol=1e-5)
    assert "softmax" in ops(model)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (2, 0)])
def test_shifted_windows(version: int, shift: tuple[int, int]) -> None:
    from runners.vision import models

    module = models.swin_transformer
    kind = module.ShiftedWindowAttentionV2 if version == 2 else module.ShiftedWindowAttention
    net = kind(8, [4, 4], list(shift), 2).eval()
    for name, parameter in net.named_parameters():
        if name != "logit_scale":
            nn.init.normal_(parameter, std=0.5)
    model = ai3.swap_backend(net)
    for shape in ((1, 8, 8, 8), (2, 7, 10, 8), (1, 4, 9, 8), (2, 3, 3, 8)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = net(x)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_heads_that_all_others_share() -> None:
    class Shared(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

    model = ai3.swap_backend(Shared())
    q, k, v = torch.randn(2, 3, 4, 6), torch.randn(2, 1, 5, 6), torch.randn(1, 1, 5, 7)
    torch.testing.assert_close(model(q, k, v), Shared()(q, k, v), rtol=1e-4, atol=1e-5)
