"""Winograd's convolution F(4x4, 3x3) in Triton (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR'16, arXiv 1509.09308, section 4.1): of tiles of 6x6 pixels, which give 4x4.

The transforms are kernels; the products of 36 matrices between them are cuBLAS's, by torch.bmm.
"""

import triton
import triton.language as tl

from ai3.platforms.cuda.kernels import _activated

TILE = 4
PLACES = 36


@triton.jit
def _image_line(a, b, c, d, e, f):
    """B^T of a line."""
    return (
        4 * a - 5 * c + e,
        e + d - 4 * (b + c),
        e - d + 4 * (b - c),
        e - c + 2 * (d - b),
        e - c + 2 * (b - d),
        4 * b - 5 * d + f,
    )


@triton.jit
def _weight_line(a, b, c):
    """G of a line."""
    even, odd = a + c, b
    wide, twice = a / 24 + c / 6, b / 12
    return (a / 4, -(even + odd) / 6, (odd - even) / 6, wide + twice, wide - twice, c)


@triton.jit
def _result_line(a, b, c, d, e, f):
    """A^T of a line."""
    near, far, across, beyond = b + c, d + e, b - c, d - e
    return (a + near + far, across + 2 * beyond, near + 4 * far, across + 8 * beyond + f)


@triton.jit
def _row(x, base, ih, iw, IH, IW, xh, xw, mask):
    """Six pixels from (ih, iw) on."""
    at, inside = base + ih * xh, mask & (ih >= 0) & (ih < IH)
    return (
        tl.load(x + at + (iw + 0) * xw, mask=inside & (iw + 0 >= 0) & (iw + 0 < IW), other=0.0),
        tl.load(x + at + (iw + 1) * xw, mask=inside & (iw + 1 >= 0) & (iw + 1 < IW), other=0.0),
        tl.load(x + at + (iw + 2) * xw, mask=inside & (iw + 2 >= 0) & (iw + 2 < IW), other=0.0),
        tl.load(x + at + (iw + 3) * xw, mask=inside & (iw + 3 >= 0) & (iw + 3 < IW), other=0.0),
        tl.load(x + at + (iw + 4) * xw, mask=inside & (iw + 4 >= 0) & (iw + 4 < IW), other=0.0),
        tl.load(x + at + (iw + 5) * xw, mask=inside & (iw + 5 >= 0) & (iw + 5 < IW), other=0.0),
    )


@triton.jit
def _store_row(out, at, step, row, mask):
    tl.store(out + at, row[0], mask=mask)
    tl.store(out + at + step, row[1], mask=mask)
    tl.store(out + at + 2 * step, row[2], mask=mask)
    tl.store(out + at + 3 * step, row[3], mask=mask)
    tl.store(out + at + 4 * step, row[4], mask=mask)
    tl.store(out + at + 5 * step, row[5], mask=mask)


@triton.jit
def _load_row(x, at, step, mask):
    return (
        tl.load(x + at, mask=mask, other=0.0),
        tl.load(x + at + step, mask=mask, other=0.0),
        tl.load(x + at + 2 * step, mask=mask, other=0.0),
        tl.load(x + at + 3 * step, mask=mask, other=0.0),
        tl.load(x + at + 4 * step, mask=mask, other=0.0),
        tl.load(x + at + 5 * step, mask=mask, other=0.0),
    )


@triton.jit
def image_transform(
    x, out, tiles, rows, columns, C, IH, IW, xn, xc, xh, xw, pad_h, pad_w, BLOCK: tl.constexpr
):  # fmt: skip
    """(36, C, tiles) of images; tiles are rows x columns of each."""
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.program_id(1)
    mask = p < tiles
    n = (p // (rows * columns)).to(tl.int64)
    ih = p // columns % rows * 4 - pad_h
    iw = p % columns * 4 - pad_w
    base = n * xn + c * xc
    r0 = _row(x, base, ih + 0, iw, IH, IW, xh, xw, mask)
    r1 = _row(x, base, ih + 1, iw, IH, IW, xh, xw, mask)
    r2 = _row(x, base, ih + 2, iw, IH, IW, xh, xw, mask)
    r3 = _row(x, base, ih + 3, iw, IH, IW, xh, xw, mask)
    r4 = _row(x, base, ih + 4, iw, IH, IW, xh, xw, mask)
    r5 = _row(x, base, ih + 5, iw, IH, IW, xh, xw, mask)
    c0 = _image_line(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0])
    c1 = _image_line(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1])
    c2 = _image_line(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2])
    c3 = _image_line(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3])
    c4 = _image_line(r0[4], r1[4], r2[4], r3[4], r4[4], r5[4])
    c5 = _image_line(r0[5], r1[5], r2[5], r3[5], r4[5], r5[5])
    step = tiles.to(tl.int64) * C
    at = c.to(tl.int64) * tiles + p
    _store_row(out, at, step, _image_line(c0[0], c1[0], c2[0], c3[0], c4[0], c5[0]), mask)
    at += 6 * step
    _store_row(out, at, step, _image_line(c0[1], c1[1], c2[1], c3[1], c4[1], c5[1]), mask)
    at += 6 * step
    _store_row(out, at, step, _image_line(c0[2], c1[2], c2[2], c3[2], c4[2], c5[2]), mask)
    at += 6 * step
    _store_row(out, at, step, _image_line(c0[3], c1[3], c2[3], c3[3], c4[3], c5[3]), mask)
    at += 6 * step
    _store_row(out, at, step, _image_line(c0[4], c1[4], c2[4], c3[4], c4[4], c5[4]), mask)
    at += 6 * step
    _store_row(out, at, step, _image_line(c0[5], c1[5], c2[5], c3[5], c4[5], c5[5]), mask)


@triton.jit
def weight_transform(
    w, out, count, C, wk, wc, wh, ww, first_h, first_w, turn, BLOCK: tl.constexpr
):  # fmt: skip
    """(36, K, C) of weights, `count` = K * C of them, whose first element is (first_h, first_w) and
    whose next ones come by `turn`: 1, or -1 where the kernel is turned round."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    at = i // C * wk + i % C * wc + first_h * wh + first_w * ww
    h, v = turn * wh, turn * ww
    c0 = _weight_line(
        tl.load(w + at, mask=mask, other=0.0),
        tl.load(w + at + h, mask=mask, other=0.0),
        tl.load(w + at + 2 * h, mask=mask, other=0.0),
    )
    c1 = _weight_line(
        tl.load(w + at + v, mask=mask, other=0.0),
        tl.load(w + at + h + v, mask=mask, other=0.0),
        tl.load(w + at + 2 * h + v, mask=mask, other=0.0),
    )
    c2 = _weight_line(
        tl.load(w + at + 2 * v, mask=mask, other=0.0),
        tl.load(w + at + h + 2 * v, mask=mask, other=0.0),
        tl.load(w + at + 2 * h + 2 * v, mask=mask, other=0.0),
    )
    step = count.to(tl.int64)
    _store_row(out, i, step, _weight_line(c0[0], c1[0], c2[0]), mask)
    _store_row(out + 6 * step, i, step, _weight_line(c0[1], c1[1], c2[1]), mask)
    _store_row(out + 12 * step, i, step, _weight_line(c0[2], c1[2], c2[2]), mask)
    _store_row(out + 18 * step, i, step, _weight_line(c0[3], c1[3], c2[3]), mask)
    _store_row(out + 24 * step, i, step, _weight_line(c0[4], c1[4], c2[4]), mask)
    _store_row(out + 30 * step, i, step, _weight_line(c0[5], c1[5], c2[5]), mask)


@triton.jit
def _give(
    value, y, residual, place, inside, added, parameter,
    has_residual: tl.constexpr, activation: tl.constexpr,
):  # fmt: skip
    value += added
    if has_residual:
        value += tl.load(residual + place, mask=inside, other=0.0)
    tl.store(y + place, _activated(value, activation, parameter), mask=inside)


@triton.jit
def _give_row(
    row, y, residual, base, oh, ow, OH, OW, yh, yw, mask, added, parameter,
    has_residual: tl.constexpr, activation: tl.constexpr,
):  # fmt: skip
    inside, at = mask & (oh < OH), base + oh * yh
    _give(
        row[0],
        y,
        residual,
        at + ow * yw,
        inside & (ow < OW),
        added,
        parameter,
        has_residual,
        activation,
    )
    _give(
        row[1],
        y,
        residual,
        at + (ow + 1) * yw,
        inside & (ow + 1 < OW),
        added,
        parameter,
        has_residual,
        activation,
    )
    _give(
        row[2],
        y,
        residual,
        at + (ow + 2) * yw,
        inside & (ow + 2 < OW),
        added,
        parameter,
        has_residual,
        activation,
    )
    _give(
        row[3],
        y,
        residual,
        at + (ow + 3) * yw,
        inside & (ow + 3 < OW),
        added,
        parameter,
        has_residual,
        activation,
    )


@triton.jit
def result_transform(
    x, bias, residual, y, tiles, rows, columns, K, OH, OW, yn, yc, yh, yw, parameter,
    has_bias: tl.constexpr, has_residual: tl.constexpr, activation: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Images of (36, K, tiles)."""
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(1)
    mask = p < tiles
    step = tiles.to(tl.int64) * K
    at = k.to(tl.int64) * tiles + p
    r0 = _load_row(x, at, step, mask)
    r1 = _load_row(x, at + 6 * step, step, mask)
    r2 = _load_row(x, at + 12 * step, step, mask)
    r3 = _load_row(x, at + 18 * step, step, mask)
    r4 = _load_row(x, at + 24 * step, step, mask)
    r5 = _load_row(x, at + 30 * step, step, mask)
    c0 = _result_line(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0])
    c1 = _result_line(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1])
    c2 = _result_line(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2])
    c3 = _result_line(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3])
    c4 = _result_line(r0[4], r1[4], r2[4], r3[4], r4[4], r5[4])
    c5 = _result_line(r0[5], r1[5], r2[5], r3[5], r4[5], r5[5])
    n = (p // (rows * columns)).to(tl.int64)
    oh, ow = p // columns % rows * 4, p % columns * 4
    base = n * yn + k * yc
    added = 0.0
    if has_bias:
        added = tl.load(bias + k)
    row = _result_line(c0[0], c1[0], c2[0], c3[0], c4[0], c5[0])
    _give_row(
        row,
        y,
        residual,
        base,
        oh,
        ow,
        OH,
        OW,
        yh,
        yw,
        mask,
        added,
        parameter,
        has_residual,
        activation,
    )
    row = _result_line(c0[1], c1[1], c2[1], c3[1], c4[1], c5[1])
    _give_row(
        row,
        y,
        residual,
        base,
        oh + 1,
        ow,
        OH,
        OW,
        yh,
        yw,
        mask,
        added,
        parameter,
        has_residual,
        activation,
    )
    row = _result_line(c0[2], c1[2], c2[2], c3[2], c4[2], c5[2])
    _give_row(
        row,
        y,
        residual,
        base,
        oh + 2,
        ow,
        OH,
        OW,
        yh,
        yw,
        mask,
        added,
        parameter,
        has_residual,
        activation,
    )
    row = _result_line(c0[3], c1[3], c2[3], c3[3], c4[3], c5[3])
    _give_row(
        row,
        y,
        residual,
        base,
        oh + 3,
        ow,
        OH,
        OW,
        yh,
        yw,
        mask,
        added,
        parameter,
        has_residual,
        activation,
    )
