"""Convolutions and their gradients in Triton, by the field's letters (N IC IH IW OC KH KW OH OW).

One kernel serves forward and gradient by the input: both are sums over the kernel's places and the
channels of one side, for each pixel and channel of the other. Strides say how images and weights
lie in memory.
"""

import triton
import triton.language as tl

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, which has no products of bfloat16."""


@triton.jit
def _activated(x, activation: tl.constexpr, parameter):
    """See kernels/activation.hpp."""
    if activation == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif activation == "relu6":
        x = tl.where(x < 0, 0.0, tl.where(x > 6, 6.0, x))
    elif activation == "leaky_relu":
        x = tl.where(x < 0, x * parameter, x)
    elif activation == "silu":
        x = x / (1.0 + tl.exp(-x))
    elif activation == "hardswish":
        x = x * tl.where(x < -3, 0.0, tl.where(x > 3, 6.0, x + 3.0)) / 6.0
    elif activation == "hardsigmoid":
        x = tl.where(x < -3, 0.0, tl.where(x > 3, 6.0, x + 3.0)) / 6.0
    elif activation == "sigmoid":
        x = 1.0 / (1.0 + tl.exp(-x))
    elif activation == "elu":
        x = tl.where(x < 0, parameter * (tl.exp(x) - 1.0), x)
    elif activation == "tanh":
        x = 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0
    elif activation == "gelu_tanh":
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        x = x / (1.0 + tl.exp(-2.0 * inner))
    elif activation == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    return x


@triton.jit
def _shown(i, extent, mode: tl.constexpr):
    """The element that place `i` of a padded line shows; for zeros any, which is masked."""
    if mode == "reflect":
        i = tl.where(i < 0, -i, i)
        i = tl.where(i >= extent, 2 * (extent - 1) - i, i)
    elif mode == "replicate":
        i = tl.where(i < 0, 0, tl.where(i >= extent, extent - 1, i))
    elif mode == "circular":
        i = tl.where(i < 0, i + extent, tl.where(i >= extent, i - extent, i))
    return i


@triton.jit
def _source(at, k, step, dilation, pad, extent, mode: tl.constexpr, backward: tl.constexpr):
    """The element of a line that place `k` of the kernel meets for the result's element `at`, and
    whether there is one."""
    if backward:
        # The outputs o with o * step + k * dilation - pad = at.
        reached = at + pad - k * dilation
        i = reached // step
        return i, (reached >= 0) & (reached % step == 0) & (i < extent)
    i = at * step + k * dilation - pad
    i = _shown(i, extent, mode)
    return i, (i >= 0) & (i < extent)


@triton.jit
def _finished(
    total,
    bias,
    residual,
    channel,
    place,
    channel_mask,
    mask,
    parameter,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    activation: tl.constexpr,
):
    if has_bias:
        total += tl.load(bias + channel, mask=channel_mask, other=0.0).to(total.dtype)[None, :]
    if has_residual:
        total += tl.load(residual + place, mask=mask, other=0.0).to(total.dtype)
    return _activated(total, activation, parameter)


@triton.jit
def by_products(
    x, w, bias, residual, y,
    count, H, W, C, K, SH, SW,
    xn, xc, xh, xw, wk, wc, wh, ww, yn, yc, yh, yw,
    KH, KW, step_h, step_w, pad_h, pad_w, dilation_h, dilation_w, parameter,
    has_bias: tl.constexpr, has_residual: tl.constexpr, activation: tl.constexpr,
    mode: tl.constexpr, backward: tl.constexpr, flat: tl.constexpr, precision: tl.constexpr,
    widened: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Results of H x W, `count` of all images, K channels a group, as products of matrices: pixels
    by channels. What is read is SH x SW, C channels a group. `flat`: channels and places of the
    kernel are one dimension of the products, for few channels."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.program_id(1) * BN + tl.arange(0, BN)
    group = tl.program_id(2)
    n, h, v = m // (H * W), m // W % H, m % W
    # Images begin at pointers; what is added to these has 32 bits.
    images = x + n.to(tl.int64) * xn
    total = tl.zeros((BM, BN), tl.float32)
    padded = tl.cdiv(C, BK) * BK
    terms = C * KH * KW if flat else KH * KW * padded
    for begin in range(0, terms, BK):
        if flat:
            i = begin + tl.arange(0, BK)
            c, kh, kw = i // (KH * KW), i // KW % KH, i % KW
            within = i < terms
            ih, inside_h = _source(
                h[:, None], kh[None, :], step_h, dilation_h, pad_h, SH, mode, backward
            )
            iw, inside_w = _source(
                v[:, None], kw[None, :], step_w, dilation_w, pad_w, SW, mode, backward
            )
            weight_at = kh * wh + kw * ww
        else:
            t = begin // padded
            kh, kw = t // KW, t % KW
            c = begin % padded + tl.arange(0, BK)
            within = c < C
            ih, inside_h = _source(h, kh, step_h, dilation_h, pad_h, SH, mode, backward)
            iw, inside_w = _source(v, kw, step_w, dilation_w, pad_w, SW, mode, backward)
            ih, inside_h, iw, inside_w = (
                ih[:, None],
                inside_h[:, None],
                iw[:, None],
                inside_w[:, None],
            )
            weight_at = tl.zeros((BK,), tl.int32) + (kh * wh + kw * ww)
        inside = inside_h & inside_w & (m < count)[:, None] & within[None, :]
        read = ((group * C + c) * xc)[None, :] + ih * xh + iw * xw
        a = tl.load(images[:, None] + read, mask=inside, other=0.0)
        # A weight is (K, C) of each group going forward and (C, K) going back.
        if backward:
            of = (group * C + c) * wk
            at = of[:, None] + k[None, :] * wc
        else:
            at = (c * wc)[:, None] + (group * K + k)[None, :] * wk
        b = tl.load(w + at + weight_at[:, None], mask=within[:, None] & (k < K)[None, :], other=0.0)
        if widened:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=precision)
    mask = (m < count)[:, None] & (k < K)[None, :]
    channel = group * K + k
    place = n.to(tl.int64)[:, None] * yn + channel[None, :] * yc + (h * yh + v * yw)[:, None]
    total = _finished(
        total, bias, residual, channel, place, k < K, mask, parameter,
        has_bias, has_residual, activation,
    )  # fmt: skip
    tl.store(y + place, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def by_scalars(
    x, w, bias, residual, y,
    count, H, W, C, K, SH, SW,
    xn, xc, xh, xw, wk, wc, wh, ww, yn, yc, yh, yw,
    KH, KW, step_h, step_w, pad_h, pad_w, dilation_h, dilation_w, parameter,
    has_bias: tl.constexpr, has_residual: tl.constexpr, activation: tl.constexpr,
    mode: tl.constexpr, backward: tl.constexpr, wide: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The same as a sum of images that are moved and multiplied by one weight each (Ofir and
    Ben-Artzi, "SMM-Conv", CVPRW'22, arXiv 2411.15659). `wide`: in double precision."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.program_id(1) * BN + tl.arange(0, BN)
    group = tl.program_id(2)
    n, h, v = m // (H * W), m // W % H, m % W
    dtype = tl.float64 if wide else tl.float32
    total = tl.zeros((BM, BN), dtype)
    for t in range(KH * KW):
        kh, kw = t // KW, t % KW
        ih, inside_h = _source(h, kh, step_h, dilation_h, pad_h, SH, mode, backward)
        iw, inside_w = _source(v, kw, step_w, dilation_w, pad_w, SW, mode, backward)
        inside = inside_h & inside_w & (m < count)
        read = n.to(tl.int64) * xn + group * C * xc + ih * xh + iw * xw
        if backward:
            at = group * C * wk + k * wc + kh * wh + kw * ww
            next_weight = wk
        else:
            at = (group * K + k) * wk + kh * wh + kw * ww
            next_weight = wc
        for c in range(C):
            a = tl.load(x + read + c * xc, mask=inside, other=0.0).to(dtype)
            b = tl.load(w + at + c * next_weight, mask=k < K, other=0.0).to(dtype)
            total += a[:, None] * b[None, :]
    mask = (m < count)[:, None] & (k < K)[None, :]
    channel = group * K + k
    place = n.to(tl.int64)[:, None] * yn + channel[None, :] * yc + (h * yh + v * yw)[:, None]
    total = _finished(
        total, bias, residual, channel, place, k < K, mask, parameter,
        has_bias, has_residual, activation,
    )  # fmt: skip
    tl.store(y + place, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def by_weight(
    x, dy, dw,
    count, OH, OW, IH, IW, C, K,
    xn, xc, xh, xw, yn, yc, yh, yw, wk, wc, wh, ww,
    KH, KW, step_h, step_w, pad_h, pad_w, dilation_h, dilation_w,
    mode: tl.constexpr, precision: tl.constexpr, wide: tl.constexpr,
    widened: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The gradient by the weight, (K, C, KH, KW) of each group, as products of matrices: output
    channels by input channels and places of the kernel, summed over the `count` output pixels."""
    k = tl.program_id(0) * BM + tl.arange(0, BM)
    i = tl.program_id(1) * BN + tl.arange(0, BN)
    group = tl.program_id(2)
    c, kh, kw = i // (KH * KW), i // KW % KH, i % KW
    within = i < C * KH * KW
    dtype = tl.float64 if wide else tl.float32
    total = tl.zeros((BM, BN), dtype)
    for begin in range(0, count, BK):
        m = begin + tl.arange(0, BK)
        n, oh, ow = m // (OH * OW), m // OW % OH, m % OW
        ih, inside_h = _source(oh[:, None], kh[None, :], step_h, dilation_h, pad_h, IH, mode, False)
        iw, inside_w = _source(ow[:, None], kw[None, :], step_w, dilation_w, pad_w, IW, mode, False)
        image = n.to(tl.int64)
        read = image[:, None] * xn + (group * C + c)[None, :] * xc + ih * xh + iw * xw
        inside = inside_h & inside_w & (m < count)[:, None] & within[None, :]
        b = tl.load(x + read, mask=inside, other=0.0)
        of = (group * K + k)[:, None] * yc + (image * yn + oh * yh + ow * yw)[None, :]
        a = tl.load(dy + of, mask=(k < K)[:, None] & (m < count)[None, :], other=0.0)
        if widened:
            a, b = a.to(tl.float32), b.to(tl.float32)
        if wide:
            total += tl.sum(a[:, :, None] * b[None, :, :], 1)
        else:
            total = tl.dot(a, b, total, input_precision=precision)
    at = (group * K + k)[:, None] * wk + (c * wc + kh * wh + kw * ww)[None, :]
    tl.store(dw + at, total.to(dw.dtype.element_ty), mask=(k < K)[:, None] & within[None, :])
