"""Winograd's convolution F(4x4, 3x3) in Triton (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR'16, arXiv 1509.09308, section 4.1): of tiles of 6x6 pixels, which give 4x4.

The transforms are kernels; the products of 36 matrices between them are cuBLAS's, by torch.bmm. A
transform is of each column of a tile, and then of each row of what that gives. A program has a tile
for each of its elements: lines of a tile are tuples of blocks, and loops over them are unrolled.
What is between the transforms is float32 where images are halves, as F(4x4, 3x3) rounds too much
there.
"""

# mypy: disable-error-code="assignment"
# Triton unrolls the loops that make tuples longer.

import triton
import triton.language as tl

from ai3.platforms.cuda.kernels import _activated


@triton.jit
def _image_line(line):
    """B^T of a line."""
    a, b, c, d, e, f = line
    return (
        4 * a - 5 * c + e,
        e + d - 4 * (b + c),
        e - d + 4 * (b - c),
        e - c + 2 * (d - b),
        e - c + 2 * (b - d),
        4 * b - 5 * d + f,
    )


@triton.jit
def _weight_line(line):
    """G of a line."""
    a, b, c = line
    even, wide, twice = a + c, a / 24 + c / 6, b / 12
    return (a / 4, -(even + b) / 6, (b - even) / 6, wide + twice, wide - twice, c)


@triton.jit
def _result_line(line):
    """A^T of a line."""
    a, b, c, d, e, f = line
    near, far, across, beyond = b + c, d + e, b - c, d - e
    return (a + near + far, across + 2 * beyond, near + 4 * far, across + 8 * beyond + f)


@triton.jit
def _gradient_line(line):
    """A of a line."""
    a, b, c, d = line
    near, far, odd, beyond = a + c, a + 4 * c, b + d, 2 * b + 8 * d
    return (a, near + odd, near - odd, far + beyond, far - beyond, d)


@triton.jit
def _weight_gradient_line(line):
    """G^T of a line."""
    a, b, c, d, e, f = line
    near, far = (b + c) / 6, d + e
    return (a / 4 - near + far / 24, (c - b) / 6 + (d - e) / 12, far / 6 - near + f)


@triton.jit
def _column(lines, i: tl.constexpr, extent: tl.constexpr):
    """The element `i` of each of `extent` lines."""
    made = ()
    for j in tl.static_range(extent):
        made = made + (lines[j][i],)  # noqa: RUF005
    return made


@triton.jit
def _loaded(at, step, extent: tl.constexpr, mask, dtype: tl.constexpr):
    """What lies `step` apart."""
    made = ()
    for i in tl.static_range(extent):
        made = made + (tl.load(at + i * step, mask=mask, other=0.0).to(dtype),)  # noqa: RUF005
    return made


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
    image = x + n * xn + c * xc
    lines = ()
    for i in tl.static_range(6):
        line = ()
        inside = mask & (ih + i >= 0) & (ih + i < IH)
        for j in tl.static_range(6):
            within = inside & (iw + j >= 0) & (iw + j < IW)
            at = image + (ih + i) * xh + (iw + j) * xw
            pixel = tl.load(at, mask=within, other=0.0).to(out.dtype.element_ty)
            line = line + (pixel,)  # noqa: RUF005
        lines = lines + (line,)  # noqa: RUF005
    halves = ()
    for j in tl.static_range(6):
        halves = halves + (_image_line(_column(lines, j, 6)),)  # noqa: RUF005
    step = tl.cast(tiles, tl.int64) * C
    at = out + c.to(tl.int64) * tiles + p
    for i in tl.static_range(6):
        whole = _image_line(_column(halves, i, 6))
        for j in tl.static_range(6):
            tl.store(at + (6 * i + j) * step, whole[j], mask=mask)


@triton.jit
def weight_transform(
    w, out, count, C, wk, wc, wh, ww, first_h, first_w, turn, BLOCK: tl.constexpr
):  # fmt: skip
    """(36, K, C) of weights, `count` = K * C of them, whose first element is (first_h, first_w) and
    whose next ones come by `turn`: 1, or -1 where the kernel is turned round."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    first = w + i // C * wk + i % C * wc + first_h * wh + first_w * ww
    halves = ()
    for j in tl.static_range(3):
        halves = halves + (  # noqa: RUF005
            _weight_line(_loaded(first + j * turn * ww, turn * wh, 3, mask, out.dtype.element_ty)),
        )
    step = tl.cast(count, tl.int64)
    for j in tl.static_range(6):
        whole = _weight_line(_column(halves, j, 3))
        for k in tl.static_range(6):
            tl.store(out + i + (6 * j + k) * step, whole[k], mask=mask)


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
    step = tl.cast(tiles, tl.int64) * K
    first = x + k.to(tl.int64) * tiles + p
    halves = ()
    for j in tl.static_range(6):
        halves = halves + (  # noqa: RUF005
            _result_line(_loaded(first + j * step, 6 * step, 6, mask, x.dtype.element_ty)),
        )
    n = (p // (rows * columns)).to(tl.int64)
    oh, ow = p // columns % rows * 4, p % columns * 4
    image = n * yn + k * yc
    added = 0.0
    if has_bias:
        added = tl.load(bias + k).to(x.dtype.element_ty)
    for i in tl.static_range(4):
        whole = _result_line(_column(halves, i, 6))
        for j in tl.static_range(4):
            inside = mask & (oh + i < OH) & (ow + j < OW)
            place = image + (oh + i) * yh + (ow + j) * yw
            value = whole[j] + added
            if has_residual:
                value += tl.load(residual + place, mask=inside, other=0.0).to(value.dtype)
            value = _activated(value, activation, parameter)
            tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gradient_transform(
    y, out, tiles, rows, columns, K, OH, OW, yn, yc, yh, yw, BLOCK: tl.constexpr
):  # fmt: skip
    """(36, K, tiles) of the gradient by images, which have tiles of 4x4."""
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(1)
    mask = p < tiles
    n = (p // (rows * columns)).to(tl.int64)
    oh, ow = p // columns % rows * 4, p % columns * 4
    image = y + n * yn + k * yc
    lines = ()
    for i in tl.static_range(4):
        line = ()
        for j in tl.static_range(4):
            within = mask & (oh + i < OH) & (ow + j < OW)
            at = image + (oh + i) * yh + (ow + j) * yw
            pixel = tl.load(at, mask=within, other=0.0).to(out.dtype.element_ty)
            line = line + (pixel,)  # noqa: RUF005
        lines = lines + (line,)  # noqa: RUF005
    halves = ()
    for j in tl.static_range(4):
        halves = halves + (_gradient_line(_column(lines, j, 4)),)  # noqa: RUF005
    step = tl.cast(tiles, tl.int64) * K
    first = out + k.to(tl.int64) * tiles + p
    for i in tl.static_range(6):
        whole = _gradient_line(_column(halves, i, 4))
        for j in tl.static_range(6):
            tl.store(first + (6 * i + j) * step, whole[j], mask=mask)


@triton.jit
def weight_gradient(x, dw, count, C, wk, wc, wh, ww, BLOCK: tl.constexpr):
    """The gradient by weights, `count` = K * C of them, of (36, K, C)."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    step = tl.cast(count, tl.int64)
    halves = ()
    for j in tl.static_range(6):
        halves = halves + (  # noqa: RUF005
            _weight_gradient_line(_loaded(x + i + j * step, 6 * step, 6, mask, x.dtype.element_ty)),
        )
    first = dw + i // C * wk + i % C * wc
    for j in tl.static_range(3):
        whole = _weight_gradient_line(_column(halves, j, 6))
        for k in tl.static_range(3):
            value = whole[k].to(dw.dtype.element_ty)
            tl.store(first + j * wh + k * ww, value, mask=mask)
