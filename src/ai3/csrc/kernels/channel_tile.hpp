// The register tile with vectors along output channels: V vectors of channels x PX pixels stay in
// registers over a whole reduction; each step multiplies V packed weight vectors by PX broadcast
// input values.
#pragma once

#include <array>

#include "core/simd.hpp"

namespace ai3 {

constexpr int max_vectors = 2;
constexpr int max_pixels(int vectors) { return std::min(accumulators / vectors, 14); }

// What a tile sums over: strides are in elements of the array that it reads.
template <typename T>
struct Reduction {
    Index IC, KH, KW;
    Index ic_stride, kh_stride, kw_stride, pixel_stride;
};

// Writes sums of V vectors of channels x PX pixels to `out` (PX, V * lanes). They begin with `bias`
// or, where that is null, with what `out` holds.
// `weights` are (IC, KH, KW, V * lanes). STEP is the stride of the pixels, 0: as `r` says.
template <typename T, int V, int PX, int STEP>
void channel_tile(const Reduction<T>& r, const T* in, const T* weights, const T* bias, T* out) {
    constexpr int W = lanes<T>;
    const Index step = STEP ? STEP : r.pixel_stride;
    Vec<T> acc[V][PX];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p) acc[v][p] = load(bias ? bias + v * W : out + (p * V + v) * W);

    for (Index ic = 0; ic < r.IC; ++ic, in += r.ic_stride) {
        const T* row = in;
        for (Index kh = 0; kh < r.KH; ++kh, row += r.kh_stride) {
            const T* pixel = row;
            for (Index kw = 0; kw < r.KW; ++kw, pixel += r.kw_stride, weights += V * W) {
                Vec<T> w[V];
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) w[v] = load(weights + v * W);
#pragma GCC unroll 16
                for (int p = 0; p < PX; ++p) {
                    const Vec<T> x = broadcast(pixel[p * step]);
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) acc[v][p] += w[v] * x;
                }
            }
        }
    }

#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(out + (p * V + v) * W, acc[v][p]);
}

template <typename T>
using ChannelTile = void (*)(const Reduction<T>&, const T*, const T*, const T*, T*);

namespace detail {

template <typename T, int V, int STEP, int... I>
constexpr auto channel_tiles(std::integer_sequence<int, I...>) {
    return std::array<ChannelTile<T>, sizeof...(I)>{channel_tile<T, V, I + 1, STEP>...};
}

}  // namespace detail

// The tile of `vectors` (1 or 2) and `pixels` (at most max_pixels). STEP as for channel_tile.
template <typename T, int STEP>
ChannelTile<T> find_channel_tile(int vectors, Index pixels) {
    static constexpr auto one =
        detail::channel_tiles<T, 1, STEP>(std::make_integer_sequence<int, max_pixels(1)>{});
    static constexpr auto two =
        detail::channel_tiles<T, 2, STEP>(std::make_integer_sequence<int, max_pixels(2)>{});
    return vectors == 1 ? one[std::size_t(pixels - 1)] : two[std::size_t(pixels - 1)];
}

// `n` pixels of one vector of channels, `stride` apart, to the first `channels` rows of `out`.
template <typename T>
void store_channels(const T* pixels, Index stride, Index n, Index channels, T* out, Index plane,
                    bool streamed = false) {
    constexpr Index W = lanes<T>;
    Vec<T> square[W];
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) square[l] = load(pixels + (l < n ? l : 0) * stride);
    transpose<T>(square);
    if (streamed && n == W && channels >= W) {
#pragma GCC unroll 16
        for (int l = 0; l < W; ++l) stream(out + l * plane, square[l]);
        return;
    }
    const auto mask = LaneMask<T>::first(n);
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) {
        if (l >= channels) break;
        mask.store(out + l * plane, square[l]);
    }
}

}  // namespace ai3
