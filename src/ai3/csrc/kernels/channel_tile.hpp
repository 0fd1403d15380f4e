// The register tile with vectors along output channels: V vectors of channels x PX pixels stay in
// registers over a whole reduction; each step multiplies V packed weight vectors by PX broadcast
// input values.
#pragma once

#include <array>

#include "core/simd.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

constexpr int max_vectors = 2;
constexpr int max_pixels(int vectors) { return std::min(accumulators / vectors, 14); }

// What a tile sums over: blocks of neighbouring channels under each element of a kernel. Strides
// are in elements of the array that it reads.
template <typename T>
struct TileReduction {
    Index blocks, KH, KW, channels;
    Index block_stride, kh_stride, kw_stride, pixel_stride;
    // How far apart the sums of two pixels and of two vectors are stored, 0: one behind the other
    // as (pixels, vectors); and whether what is negative of them becomes zero.
    Index out_pixel = 0, out_vector = lanes<T>;
    bool relu = false;
};

// Writes sums of V vectors of channels x PX pixels to `out`. They begin with `bias` or, where that
// is null, with what `out` holds.
// `weights` are (blocks, KH, KW, channels, V * lanes). STEP is the stride of the pixels and
// CHANNELS that of a block, 0: as `r` says.
template <typename T, int V, int PX, int STEP, int CHANNELS>
void channel_tile(const TileReduction<T>& r, const T* in, const T* weights, const T* bias, T* out) {
    constexpr int W = lanes<T>;
    const Index step = STEP ? STEP : r.pixel_stride, channels = CHANNELS ? CHANNELS : r.channels;
    const Index out_pixel = r.out_pixel ? r.out_pixel : V * W, out_vector = r.out_vector;
    const auto place = [&](int p, int v) { return out + p * out_pixel + v * out_vector; };
    Vec<T> acc[V][PX];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p) acc[v][p] = load(bias ? bias + v * W : place(p, v));

    for (Index block = 0; block < r.blocks; ++block, in += r.block_stride) {
        const T* row = in;
        for (Index kh = 0; kh < r.KH; ++kh, row += r.kh_stride) {
            const T* pixel = row;
            for (Index kw = 0; kw < r.KW; ++kw, pixel += r.kw_stride)
                for (Index c = 0; c < channels; ++c, weights += V * W) {
                    Vec<T> w[V];
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) w[v] = load(weights + v * W);
#pragma GCC unroll 16
                    for (int p = 0; p < PX; ++p) {
                        const Vec<T> x = broadcast(pixel[p * step + c]);
#pragma GCC unroll 2
                        for (int v = 0; v < V; ++v) acc[v][p] += w[v] * x;
                    }
                }
        }
    }

    if (r.relu)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[v][p] = acc[v][p] < T(0) ? Vec<T>{} : acc[v][p];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(place(p, v), acc[v][p]);
}

template <typename T>
using ChannelTile = void (*)(const TileReduction<T>&, const T*, const T*, const T*, T*);

namespace detail {

template <typename T, int V, int STEP, int CHANNELS, int... I>
constexpr auto channel_tiles(std::integer_sequence<int, I...>) {
    return std::array<ChannelTile<T>, sizeof...(I)>{channel_tile<T, V, I + 1, STEP, CHANNELS>...};
}

}  // namespace detail

// The tile of `vectors` (1 or 2) and `pixels` (at most max_pixels). STEP and CHANNELS as for
// channel_tile.
template <typename T, int STEP, int CHANNELS>
ChannelTile<T> find_channel_tile(int vectors, Index pixels) {
    static constexpr auto one = detail::channel_tiles<T, 1, STEP, CHANNELS>(
        std::make_integer_sequence<int, max_pixels(1)>{});
    static constexpr auto two = detail::channel_tiles<T, 2, STEP, CHANNELS>(
        std::make_integer_sequence<int, max_pixels(2)>{});
    return vectors == 1 ? one[std::size_t(pixels - 1)] : two[std::size_t(pixels - 1)];
}

// The tile for a reduction: the strides that occur most are known to the compiler. For double most
// of them gain nothing.
template <typename T>
ChannelTile<T> find_channel_tile(const TileReduction<T>& r, int vectors, Index pixels) {
    constexpr int W = lanes<T>;
    if (r.channels == 1 && r.pixel_stride == 1) return find_channel_tile<T, 1, 1>(vectors, pixels);
    if constexpr (sizeof(T) == sizeof(float)) {
        if (r.channels == 1 && r.pixel_stride == 2)
            return find_channel_tile<T, 2, 1>(vectors, pixels);
        if (r.channels == W && r.pixel_stride == W)
            return find_channel_tile<T, W, W>(vectors, pixels);
        if (r.channels == W && r.pixel_stride == 2 * W)
            return find_channel_tile<T, 2 * W, W>(vectors, pixels);
    }
    return find_channel_tile<T, 0, 0>(vectors, pixels);
}

// `n` pixels of one vector of channels, `stride` apart, to the first `channels` planes of `out`.
template <typename T>
void store_channels(const T* pixels, Index stride, Index n, Index channels, T* out, Index plane,
                    const Epilogue<T>& epilogue = {}, bool streamed = false) {
    constexpr Index W = lanes<T>;
    Vec<T> square[W];
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) square[l] = load(pixels + (l < n ? l : 0) * stride);
    transpose<T>(square);
    const auto mask = LaneMask<T>::first(n);
    if (!epilogue.empty())
        for (int l = 0; l < std::min(W, channels); ++l)
            square[l] = epilogue(square[l], out + l * plane, mask);
    if (streamed && n == W && channels >= W) {
#pragma GCC unroll 16
        for (int l = 0; l < W; ++l) stream(out + l * plane, square[l]);
        return;
    }
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) {
        if (l >= channels) break;
        mask.store(out + l * plane, square[l]);
    }
}

}  // namespace ai3
