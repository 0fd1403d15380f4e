// From rows of single channels to pixels whose channels lie side by side.
#pragma once

#include "core/simd.hpp"

namespace ai3 {

// `n` pixels of `channels` rows, `plane` apart, as vectors of channels: put(pixel, vector). Absent
// channels are zero. Where `beyond` is set, a whole vector may be read of each row.
template <typename T, typename Put>
void for_gathered_channels(const T* from, Index plane, Index n, Index channels, bool beyond,
                           Put put) {
    constexpr Index W = lanes<T>;
    Vec<T> square[W];
    if (channels >= W && (n == W || beyond)) {
#pragma GCC unroll 16
        for (int l = 0; l < W; ++l) square[l] = load(from + l * plane);
    } else {
        const auto mask = LaneMask<T>::first(n);
        for (int l = 0; l < W; ++l)
            square[l] = l < channels ? mask.load(from + l * plane) : Vec<T>{};
    }
    transpose<T>(square);
    for (Index l = 0; l < n; ++l) put(l, square[l]);
}

// The same to vectors that are `stride` apart.
template <typename T>
void gather_channels(const T* from, Index plane, Index n, Index channels, T* out, Index stride) {
    for_gathered_channels(from, plane, n, channels, false,
                          [&](Index l, Vec<T> pixel) { store(out + l * stride, pixel); });
}

}  // namespace ai3
