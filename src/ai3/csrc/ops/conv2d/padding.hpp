// Copies of parts of an image with the padding in place, for kernels without border checks.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

// Copies a row of one channel, `width` pixels from `column` on, either of which may lie in the
// padding.
template <typename T, typename To>
void copy_row(const Conv2d& p, const T* row, Index column, Index width, To* to) {
    const Index left = std::clamp<Index>(-column, 0, width);
    const Index right = std::clamp<Index>(p.IW - column, left, width);
    const auto border = [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            const Index iw = padded_source(column + i, p.IW, p.padding_mode);
            to[i] = iw < 0 ? To(0) : To(row[iw]);
        }
    };
    border(0, left);
    std::copy(row + column + left, row + column + right, to + left);
    border(right, width);
}

// Geometry of the dense image (IC, height, width) that a kernel reads: the input itself, or a copy
// with the padding in place. Rows and columns that the kernel never reaches are left out of a copy.
struct PaddedImage {
    Index height, width;
    bool copied;

    explicit PaddedImage(const Conv2d& p) : height(p.IH), width(p.IW), copied(p.padded()) {
        if (copied) height = p.reach_h(), width = p.reach_w();
    }

    Index plane() const { return height * width; }
};

// Writes one channel of it, (height, width), from (IH, IW).
template <typename T>
void pad_plane(const Conv2d& p, const PaddedImage& image, const T* from, T* to) {
    for (Index h = 0; h < image.height; ++h, to += image.width) {
        const Index ih = padded_source(h - p.pad_top, p.IH, p.padding_mode);
        if (ih < 0)
            std::fill(to, to + image.width, T(0));
        else
            copy_row(p, from + ih * p.IW, -p.pad_left, image.width, to);
    }
}

// Copies block `block` of lanes<T> input channels, rows x width pixels, as (rows, width, lanes).
// They begin at (row, column), which may lie in the padding or, for outputs that do not exist,
// beyond it. `image` is that of the input's layout.
template <typename T, typename To>
void copy_block(const Conv2d& p, const T* image, Index block, Index row, Index column, Index rows,
                Index width, To* to) {
    constexpr Index W = lanes<T>;
    const ImageStrides strides = p.input_strides();
    const Index channels = std::min(W, p.IC - block * W);
    const T* from = image + strides.channel(block * W);
    const Index left = std::clamp<Index>(-column, 0, width);
    const Index right = std::clamp<Index>(p.IW - column, left, width);
    for (Index h = 0; h < rows; ++h, to += width * W) {
        const Index ih =
            row + h < p.IH + p.pad_bottom ? padded_source(row + h, p.IH, p.padding_mode) : -1;
        if (ih < 0) {
            std::fill(to, to + width * W, To(0));
            continue;
        }
        const T* pixels = from + ih * strides.row;
        if (p.input_layout == Layout::blocked) {
            const T* first = pixels + (column + left) * W;
            if constexpr (std::is_same_v<T, To>)
                std::copy(first, pixels + (column + right) * W, to + left * W);
            else
                for (Index i = 0; i < (right - left) * W; i += W)
                    store(to + left * W + i, load(first + i));
        } else if (p.input_layout == Layout::channels_last) {
            const auto live = LaneMask<T>::first(channels);
            for (Index w = left; w < right; ++w)
                store(to + w * W, live.load(pixels + (column + w) * strides.pixel));
        } else {
            for (Index w = left; w < right; w += W) {
                const Index n = std::min(W, right - w);
                const T* first = pixels + column + w;
                Vec<T> square[W];
                if (n == W && channels == W) {
#pragma GCC unroll 16
                    for (Index c = 0; c < W; ++c)
                        square[c] = load(first + c * strides.block_stride);
                } else {
                    const auto live = LaneMask<T>::first(n);
                    for (Index c = 0; c < W; ++c)
                        square[c] =
                            c < channels ? live.load(first + c * strides.block_stride) : Vec<T>{};
                }
                transpose<T>(square);
                for (Index l = 0; l < n; ++l) store(to + (w + l) * W, square[l]);
            }
        }
        const auto border = [&](Index begin, Index end) {
            if (p.padding_mode == PaddingMode::zeros) {
                for (Index w = begin; w < end; ++w) store(to + w * W, Vec<T>{});
                return;
            }
            for (Index w = begin; w < end; ++w) {
                const Index iw = column + w < p.IW + p.pad_right
                                     ? padded_source(column + w, p.IW, p.padding_mode)
                                     : -1;
                for (Index c = 0; c < W; ++c)
                    to[w * W + c] =
                        iw < 0 || c >= channels
                            ? To(0)
                            : To(pixels[c * (strides.block == 1 ? strides.block_stride : 1) +
                                        iw * strides.pixel]);
            }
        };
        border(0, left);
        border(right, width);
    }
}

}  // namespace ai3
