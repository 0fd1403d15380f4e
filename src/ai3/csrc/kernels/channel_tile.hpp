// The register tile with vectors along output channels: V vectors of channels x PX pixels stay in
// registers over a whole reduction; each step multiplies V packed weight vectors by PX broadcast
// input values.
#pragma once

#include "core/simd.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

constexpr Index page = 4096;
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
    // Channels of the last block, 0: as many as of the others.
    Index last_channels = 0;
    // What is fetched: from `ahead` bytes after the first weight on, `ahead_step` further with each
    // step; 0: as far as the weights of a step go. By default those a page after a step's own, as
    // the processor's own prefetching ends with a page.
    Index ahead = page, ahead_step = 0;
    // Whether only the lower half of the last vector's weights is not zero.
    bool half = false;

    // While `sharing` tiles multiply the same weights, `bytes` in each of `steps` steps, each
    // fetches its share of those that are multiplied next and lie `next` bytes behind; it is number
    // `number` of them.
    void fetch_next(Index next, Index steps, Index bytes, Index number, Index sharing) {
        if (sharing < 2) return;
        ahead_step = (bytes + sharing - 1) / sharing;
        ahead = next + number * steps * ahead_step;
    }

    // The product of a matrix: `depth` rows of neighbouring pixels, `pitch` apart.
    static TileReduction of_rows(Index depth, Index pitch) {
        return {1, 1, depth, 1, 0, 0, pitch, 1};
    }
};

// Whether tiles of float compute a half-empty last vector by halves: there are processors that cut
// vectors of 64 bytes in two.
constexpr bool half_vectors = sizeof(Vec<float>) == 64;

// Whether the last vector of `channels` channels is empty by half or more.
template <typename T>
constexpr bool half_empty(Index channels) {
    const Index last = channels % lanes<T>;
    return last > 0 && 2 * last <= lanes<T>;
}

// How many vectors a tile multiplies for `channels` channels in blocks of `block`.
inline double multiplied_vectors(Index channels, Index block) {
    const Index parts = half_vectors && block == lanes<float> ? 2 : 1;
    return double((channels * parts + block - 1) / block) / double(parts);
}

// Writes sums of some vectors of channels x some pixels of `in` to `out`. They begin with `bias`
// or, where that is null, with what `out` holds. `weights` are (blocks, KH, KW, channels, vectors,
// lanes).
// Those of type U are converted to what T is computed with.
template <typename T, typename U = T>
using ChannelTile = void (*)(const TileReduction<T>& r, const T* in, const U* weights,
                             const Lane<T>* bias, Lane<T>* out);

// Neighbouring channels that a tile multiplies at a time: in bfloat16 pairs, whose products are
// added to one sum. The weights of a pair then lie side by side: (..., channels / 2, vectors,
// lanes, 2).
template <typename T>
constexpr Index multiplied = std::is_same_v<T, bfloat16> ? 2 : 1;

// The tile of `vectors` (1 or 2) and `pixels` (at most max_pixels) for reductions as `r`.
template <typename T, typename U = T>
ChannelTile<T, U> find_channel_tile(const TileReduction<T>& r, int vectors, Index pixels);

// `n` pixels of one vector of channels, `stride` apart, to the first `channels` planes of `out`.
template <typename T>
void store_channels(const Lane<T>* pixels, Index stride, Index n, Index channels, T* out,
                    Index plane, const Epilogue<T>& epilogue = {}, bool streamed = false) {
    constexpr Index W = lanes<T>;
    Vec<T> square[W];
#pragma GCC unroll 16
    for (int l = 0; l < W; ++l) square[l] = load(pixels + (l < n ? l : 0) * stride);
    transpose<T>(square);
    const auto mask = LaneMask<T>::first(n);
    if (!epilogue.empty())
        for (int l = 0; l < std::min(W, channels); ++l)
            square[l] = epilogue(square[l], out + l * plane, mask);
    if constexpr (std::is_same_v<T, Lane<T>>)
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
