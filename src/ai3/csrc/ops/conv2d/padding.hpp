// The padded copy of an image that kernels without border checks read: a physical halo.
#pragma once

#include "ops/conv2d/op.hpp"

namespace ai3 {

// Geometry of the dense image (IC, height, width) that a kernel reads: the input itself, or a copy
// with the padding in place. Rows and columns that the kernel never reaches are left out of a copy.
struct PaddedImage {
    Index height, width;
    bool copied;

    explicit PaddedImage(const Conv2d& p) : height(p.IH), width(p.IW), copied(p.padded()) {
        if (copied) height = p.reach_h(), width = p.reach_w();
    }

    Index plane() const { return height * width; }
    std::size_t bytes(const Conv2d& p) const {
        return copied ? std::size_t(p.IC * plane()) * size_of(p.dtype) : 0;
    }
};

// Writes channel `c` of one image: rows of `from` (IH, IW) into `to` (height, width).
template <typename T>
void pad_plane(const Conv2d& p, const PaddedImage& image, const T* from, T* to) {
    const Index left = std::min(p.pad_left, image.width);
    const Index inner = std::clamp<Index>(image.width - left, 0, p.IW);
    for (Index h = 0; h < image.height; ++h, to += image.width) {
        const Index ih = padded_source(h - p.pad_top, p.IH, p.padding_mode);
        if (ih < 0) {
            std::fill(to, to + image.width, T(0));
            continue;
        }
        const T* row = from + ih * p.IW;
        for (Index w = 0; w < left; ++w) {
            const Index iw = padded_source(w - p.pad_left, p.IW, p.padding_mode);
            to[w] = iw < 0 ? T(0) : row[iw];
        }
        std::copy(row, row + inner, to + left);
        for (Index w = left + inner; w < image.width; ++w) {
            const Index iw = padded_source(w - p.pad_left, p.IW, p.padding_mode);
            to[w] = iw < 0 ? T(0) : row[iw];
        }
    }
}

}  // namespace ai3
