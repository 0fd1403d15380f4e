// Arrays of bfloat16 to and from float.
#pragma once

#include "core/parallel.hpp"
#include "core/simd.hpp"

namespace ai3 {

// Copies `n` elements from one type to the other: both are computed with as float.
template <typename From, typename To>
void convert(const From* from, To* to, Index n, int threads) {
    constexpr Index W = lanes<float>, grain = 1 << 14;
    parallel_ranges(threads, n, grain, [&](Index begin, Index end) {
        Index i = begin;
        for (; i + W <= end; i += W) store(to + i, load(from + i));
        const auto rest = end - i;
        LaneMask<To>::first(rest).store(to + i, LaneMask<From>::first(rest).load(from + i));
    });
}

}  // namespace ai3
