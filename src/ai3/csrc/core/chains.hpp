// How long instructions take that wait for their own results.
#pragma once

#include <chrono>

#include "core/simd.hpp"

namespace ai3 {

// The least time, in seconds, in which each of `chains` vectors goes through `step` 2048 times; a
// step is of a vector and of ones.
template <int chains, typename Step>
double least_seconds(Step step) {
    constexpr int steps = 1 << 11, rounds = 9;
    double least = 1e9;
    volatile float sink = 0;
    for (int round = 0; round < rounds; ++round) {
        const auto start = std::chrono::steady_clock::now();
        Vec<float> sums[chains] = {};
        const Vec<float> one = broadcast(sink + 1);
        for (int i = 0; i < steps; ++i)
#pragma GCC unroll 12
            for (int c = 0; c < chains; ++c) sums[c] = step(in_register(sums[c]), one);
        for (int c = 1; c < chains; ++c) sums[0] += sums[c];
        sink = sums[0][0] * 0;
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        least = std::min(least, taken.count());
    }
    return least;
}

}  // namespace ai3
