// From rows of single channels to pixels whose channels lie side by side.
#pragma once

#include "core/simd.hpp"

namespace ai3 {

// `n` pixels of `channels` rows, `plane` apart, to vectors of channels that are `stride` apart;
// absent channels are zero.
template <typename T>
void gather_channels(const T* from, Index plane, Index n, Index channels, Lane<T>* out,
                     Index stride) {
    constexpr Index W = lanes<T>;
    const auto mask = LaneMask<T>::first(n);
    Vec<T> square[W];
    if (channels >= W && n == W) {
#pragma GCC unroll 16
        for (int l = 0; l < W; ++l) square[l] = load(from + l * plane);
    } else {
        for (int l = 0; l < W; ++l)
            square[l] = l < channels ? mask.load(from + l * plane) : Vec<T>{};
    }
    transpose<T>(square);
    for (Index l = 0; l < n; ++l) store(out + l * stride, square[l]);
}

}  // namespace ai3
