"""Attention modules and functions as plain graph."""

import math
from typing import Any

import torch
from torch import nn

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.movement import select, sliced
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.products import attention
from ai3.torch.lowerings.reductions import vector_norm
from ai3.torch.lowerings.shapes import expand, permuted, reshape, unsqueeze
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


def multihead_attention(
    b: Builder,
    module: nn.MultiheadAttention,
    query: Value,
    key: Value,
    value: Value,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Value, Any]:
    """Vaswani et al., "Attention Is All You Need", 3.2.2. The weights are not computed."""
    heads, width = module.num_heads, module.head_dim
    # (N, L, E) -> (N, heads, L, E / heads); without batch_first the input is (L, N, E).
    batched = (0, 2, 1, 3) if module.batch_first else (1, 2, 0, 3)
    if module.in_proj_weight is not None and query is key and key is value:
        packed = b.add("linear", [query], {}, [module.in_proj_weight, module.in_proj_bias])
        sizes = (shape_of(query.name)[0], shape_of(query.name)[1], 3, heads, width)
        apart = permuted(b, reshape(b, packed, sizes), (2, *(d + (d > 1) for d in batched)))
        q, k, v = (select(b, apart, 0, i) for i in range(3))
    else:
        if module.in_proj_weight is not None:
            weights = list(module.in_proj_weight.chunk(3))
        else:
            weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        bias = module.in_proj_bias
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        parts = [
            b.add("linear", [x], {}, [w, c])
            for x, w, c in zip((query, key, value), weights, biases, strict=True)
        ]

        def split(x: Value) -> Value:
            sizes = (shape_of(x.name)[0], shape_of(x.name)[1], heads, width)
            return permuted(b, reshape(b, x, sizes), batched)

        q, k, v = map(split, parts)
    masks = []
    if attn_mask is not None:
        mask = _excluding(b, attn_mask)
        if isinstance(attn_mask, torch.Tensor) and attn_mask.dim() == 3:
            # (N * heads, L, S)
            mask = reshape(b, mask, (-1, heads, *attn_mask.shape[1:]))
        masks.append(mask)
    if key_padding_mask is not None:
        padding = _excluding(b, key_padding_mask)
        masks.append(unsqueeze(b, unsqueeze(b, padding, 1), 1))
    # Queries attend to a pair that was learned, and to one of zeros, too.
    pairs = []
    if module.bias_k is not None and module.bias_v is not None:
        pairs.append((module.bias_k.detach(), module.bias_v.detach()))
    if module.add_zero_attn:
        pairs.append((torch.zeros(module.embed_dim), torch.zeros(module.embed_dim)))
    for pair in pairs:
        k, v = (
            _with_another(b, x, extra, heads, width) for x, extra in zip((k, v), pair, strict=True)
        )
        masks = [
            b.add("pad", [m], {"pad": (0, 1), "mode": "constant", "value": 0.0}) for m in masks
        ]
    joint = masks[0] if len(masks) == 1 else b.add("add", masks) if masks else None
    mixed = attention(b, q, k, v, joint, is_causal=is_causal and attn_mask is None)
    back = (0, 2, 1, 3) if module.batch_first else (2, 0, 1, 3)
    shape = shape_of(query.name)
    joined = reshape(b, permuted(b, mixed, back), (shape[0], shape[1], module.embed_dim))
    out = module.out_proj
    return b.add("linear", [joined], {}, [out.weight, out.bias]), None


def _with_another(b: Builder, x: Value, extra: torch.Tensor, heads: int, width: int) -> Value:
    """Keys or values (N, heads, S, width) with one more, the same for all samples."""
    extra = extra.reshape(1, heads, 1, width)
    one = expand(b, b.value(extra), (shape_of(x.name)[0], heads, 1, width))
    return b.add("concat", [x, one], {"dim": 2})


def _excluding(b: Builder, mask: Any) -> Value:
    """A mask of nn.MultiheadAttention, whose truth values say what takes no part, as one that is
    added."""
    mask = b.value(mask)
    if b.dtype_of(mask) == torch.bool:
        return pointwise(b, "where(mask, -inf, 0.0)", mask=mask)
    return mask


def _layer_norm(b: Builder, norm: Any, x: Value) -> Value:
    attributes = {"normalized_shape": tuple(norm.normalized_shape), "eps": norm.eps}
    return b.add("layer_norm", [x], attributes, [norm.weight, norm.bias])


def _feed_forward(b: Builder, module: Any, x: Value) -> Value:
    hidden = b.add("linear", [x], {}, [module.linear1.weight, module.linear1.bias])
    function = getattr(module.activation, "__name__", type(module.activation).__name__).lower()
    if function not in ("relu", "gelu"):
        raise Refusal(f"{type(module).__name__} with the activation {function}")
    hidden = b.add(function, [hidden])
    return b.add("linear", [hidden], {}, [module.linear2.weight, module.linear2.bias])


def _transformer_layer(b: Builder, norm_first: bool, x: Value, *parts: Any) -> Value:
    """Residual blocks of (norm, function), the norm before each function or after each sum."""
    for norm, function in parts:
        if norm_first:
            x = b.add("add", [x, function(_layer_norm(b, norm, x))])
        else:
            x = _layer_norm(b, norm, b.add("add", [x, function(x)]))
    return x


def transformer_encoder_layer(
    b: Builder,
    module: nn.TransformerEncoderLayer,
    src: Value,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Value:
    """Vaswani et al., 3.1."""

    def attend(x: Value) -> Value:
        return multihead_attention(
            b, module.self_attn, x, x, x, src_key_padding_mask, attn_mask=src_mask
        )[0]

    return _transformer_layer(
        b,
        module.norm_first,
        src,
        (module.norm1, attend),
        (module.norm2, lambda x: _feed_forward(b, module, x)),
    )


def transformer_decoder_layer(
    b: Builder,
    module: nn.TransformerDecoderLayer,
    tgt: Value,
    memory: Value,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool = False,
    memory_is_causal: bool = False,
) -> Value:
    """Vaswani et al., 3.1."""

    def attend(x: Value) -> Value:
        return multihead_attention(
            b, module.self_attn, x, x, x, tgt_key_padding_mask, attn_mask=tgt_mask
        )[0]

    def look(x: Value) -> Value:
        return multihead_attention(
            b,
            module.multihead_attn,
            x,
            memory,
            memory,
            memory_key_padding_mask,
            attn_mask=memory_mask,
        )[0]

    return _transformer_layer(
        b,
        module.norm_first,
        tgt,
        (module.norm1, attend),
        (module.norm2, look),
        (module.norm3, lambda x: _feed_forward(b, module, x)),
    )


def transformer_encoder(
    b: Builder,
    module: nn.TransformerEncoder,
    src: Value,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: Any = None,
) -> Value:
    for layer in module.layers:
        _check_kind(layer, nn.TransformerEncoderLayer)
        src = transformer_encoder_layer(b, layer, src, mask, src_key_padding_mask)
    return src if module.norm is None else _layer_norm(b, module.norm, src)


def transformer_decoder(
    b: Builder, module: nn.TransformerDecoder, tgt: Value, memory: Value, *args: Any, **kwargs: Any
) -> Value:
    for layer in module.layers:
        _check_kind(layer, nn.TransformerDecoderLayer)
        tgt = transformer_decoder_layer(b, layer, tgt, memory, *args, **kwargs)
    return tgt if module.norm is None else _layer_norm(b, module.norm, tgt)


def _check_kind(layer: nn.Module, kind: type[nn.Module]) -> None:
    if type(layer) is not kind:
        raise Refusal(f"a stack of {type(layer).__name__}, which are not torch's own layers")


@lowers("torchvision.models.swin_transformer.shifted_window_attention")
def shifted_window_attention(
    b: Builder,
    input: Value,
    qkv_weight: torch.Tensor,
    proj_weight: torch.Tensor,
    relative_position_bias: torch.Tensor,
    window_size: list[int],
    num_heads: int,
    shift_size: list[int],
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    qkv_bias: torch.Tensor | None = None,
    proj_bias: torch.Tensor | None = None,
    logit_scale: torch.Tensor | None = None,
    training: bool = True,
) -> Value:
    """Liu et al., "Swin Transformer", arXiv 2103.14030, 3.2, and V2, arXiv 2111.09883, 3.3."""
    batch, height, width = (shape_of(input.name)[i] for i in range(3))
    channels = proj_weight.shape[0]
    (high, wide), depth = window_size, channels // num_heads
    # Padded to whole windows; a dimension of a single window is not shifted.
    below, right = -height % high, -width % wide
    rows, columns = height + below, width + right
    shift = tuple(
        Expression("choose", (Expression("lt", (window, extent)), amount, 0))
        for window, extent, amount in zip(window_size, (rows, columns), shift_size, strict=True)
    )
    x = b.add("pad", [input], {"pad": (0, 0, 0, right, 0, below)})
    x = b.add("roll", [x], {"shifts": (-shift[0], -shift[1]), "dims": (1, 2)})
    x = reshape(b, x, (batch, rows // high, high, columns // wide, wide, channels))
    count = (rows // high) * (columns // wide)
    x = reshape(b, permuted(b, x, (0, 1, 3, 2, 4, 5)), (batch, count, high * wide, channels))

    if logit_scale is not None and qkv_bias is not None:
        qkv_bias = qkv_bias.detach().clone()
        qkv_bias[channels : 2 * channels] = 0
    qkv = b.add("linear", [x], {}, [qkv_weight, qkv_bias])
    qkv = reshape(b, qkv, (batch, count, high * wide, 3, num_heads, depth))
    qkv = permuted(b, qkv, (3, 0, 1, 4, 2, 5))
    q, k, v = (select(b, qkv, 0, i) for i in range(3))
    scale = None
    if logit_scale is not None:
        factor = torch.clamp(logit_scale.detach(), max=math.log(100.0)).exp()
        q = b.add("mul", [normalized(b, q, dim=-1), factor])
        k, scale = normalized(b, k, dim=-1), 1.0
    bias: Any = relative_position_bias.detach()
    if any(shift_size):
        mask = Expression("window mask", (rows, columns, tuple(window_size), shift))
        bias = b.add("add", [b.computed(mask), bias])
    x = attention(b, q, k, v, bias, scale=scale)

    x = reshape(b, permuted(b, x, (0, 1, 3, 2, 4)), (batch, count, high * wide, channels))
    x = b.add("linear", [x], {}, [proj_weight, proj_bias])
    x = reshape(b, x, (batch, rows // high, columns // wide, high, wide, channels))
    x = reshape(b, permuted(b, x, (0, 1, 3, 2, 4, 5)), (batch, rows, columns, channels))
    x = b.add("roll", [x], {"shifts": shift, "dims": (1, 2)})
    return sliced(b, sliced(b, x, 1, 0, height), 2, 0, width)


@lowers("torch.nn.functional.normalize")
def normalized(
    b: Builder, x: Value, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None
) -> Value:
    if p != 2 or not isinstance(dim, int):
        length = vector_norm(b, x, p, dim, True)
        return pointwise(b, "x / maximum(n, eps)", x=x, n=length, eps=eps)
    return b.add("normalize", [x], {"dim": dim, "eps": eps})
