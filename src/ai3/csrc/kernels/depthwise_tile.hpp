// The register tile of a depthwise convolution with vectors along channels: PX neighbouring pixels
// of one vector of channels. Each loaded input vector serves all elements of a kernel's row.
#pragma once

#include <array>

#include "kernels/epilogue.hpp"

namespace ai3 {

constexpr int most_depthwise_pixels = accumulators >= 24 ? 8 : 6;

template <typename T>
struct DepthwiseRow {
    const T* const* rows;  // for each row of the kernel the input under the tile's first pixel
    Index KH, KW;
    Index pixel;           // from an input pixel to the next
    Index step, dilation;  // in input pixels: between outputs, between elements of the kernel
    const T* weights;      // (KH, KW, lanes), after the bias (lanes)
    Index out_pixel;
};

// Writes PX pixels of one vector of channels. KW is the kernel's width and STEP the stride where
// the dilation is 1, 0: as `r` says.
template <typename T, int KW, int STEP, int PX>
void depthwise_tile(const DepthwiseRow<T>& r, Index offset, T* out, const Epilogue<T>& epilogue) {
    constexpr int W = lanes<T>;
    const T* w = r.weights;
    Vec<T> acc[PX];
#pragma GCC unroll 8
    for (int p = 0; p < PX; ++p) acc[p] = load(w);
    w += W;
    for (Index kh = 0; kh < r.KH; ++kh) {
        const T* in = r.rows[kh] + offset;
        if constexpr (KW > 0) {
            Vec<T> row[KW];
#pragma GCC unroll 8
            for (int kw = 0; kw < KW; ++kw) row[kw] = load(w + kw * W);
            w += KW * W;
#pragma GCC unroll 32
            for (int i = 0; i < (PX - 1) * STEP + KW; ++i) {
                const Vec<T> x = load(in + i * r.pixel);
#pragma GCC unroll 8
                for (int kw = 0; kw < KW; ++kw)
                    if (i >= kw && (i - kw) % STEP == 0 && (i - kw) / STEP < PX)
                        acc[(i - kw) / STEP] += row[kw] * x;
            }
        } else {
            for (Index kw = 0; kw < r.KW; ++kw, w += W, in += r.dilation * r.pixel) {
                const Vec<T> row = load(w);
#pragma GCC unroll 8
                for (int p = 0; p < PX; ++p) acc[p] += row * load(in + p * r.step * r.pixel);
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < PX; ++p) store(out + p * r.out_pixel, acc[p]);
    if (epilogue.empty()) return;
    for (int p = 0; p < PX; ++p) {
        T* at = out + p * r.out_pixel;
        store(at, epilogue(load(at), at));
    }
}

template <typename T>
using DepthwiseTile = void (*)(const DepthwiseRow<T>&, Index, T*, const Epilogue<T>&);

namespace detail {

template <typename T, int KW, int STEP, int... I>
constexpr auto depthwise_tiles(std::integer_sequence<int, I...>) {
    return std::array<DepthwiseTile<T>, sizeof...(I)>{depthwise_tile<T, KW, STEP, I + 1>...};
}

template <typename T, int KW, int STEP>
DepthwiseTile<T> find_depthwise_tile(Index pixels) {
    static constexpr auto tiles =
        depthwise_tiles<T, KW, STEP>(std::make_integer_sequence<int, most_depthwise_pixels>{});
    return tiles[std::size_t(pixels - 1)];
}

}  // namespace detail

// The tile of `pixels`, at most most_depthwise_pixels.
template <typename T>
DepthwiseTile<T> find_depthwise_tile(const DepthwiseRow<T>& r, Index pixels) {
    using detail::find_depthwise_tile;
    if (r.dilation == 1 && r.step == 1) {
        if (r.KW == 3) return find_depthwise_tile<T, 3, 1>(pixels);
        if (r.KW == 5) return find_depthwise_tile<T, 5, 1>(pixels);
        if (r.KW == 7) return find_depthwise_tile<T, 7, 1>(pixels);
    }
    if (r.dilation == 1 && r.step == 2) {
        if (r.KW == 3) return find_depthwise_tile<T, 3, 2>(pixels);
        if (r.KW == 5) return find_depthwise_tile<T, 5, 2>(pixels);
    }
    return find_depthwise_tile<T, 0, 0>(pixels);
}

}  // namespace ai3
