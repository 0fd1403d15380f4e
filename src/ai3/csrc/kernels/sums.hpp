// Sums of contiguous numbers, and what normalisation needs of them.
#pragma once

#include "core/simd.hpp"

namespace ai3 {

// The sum over `n` elements of term(x), x being vectors of them. Vectors add up no more than some
// hundreds of terms each before these go into a double.
template <typename T, typename Term>
double sum_of(const T* x, Index n, Term term) {
    constexpr Index W = lanes<T>, block = 1024 * W;
    double total = 0;
    for (Index first = 0; first < n; first += block) {
        const Index end = std::min(first + block, n);
        Vec<T> sums[4] = {};
        Index i = first;
        for (; i + 4 * W <= end; i += 4 * W)
#pragma GCC unroll 4
            for (Index v = 0; v < 4; ++v) sums[v] += term(load(x + i + v * W));
        for (; i + W <= end; i += W) sums[0] += term(load(x + i));
        if (i < end) {
            const auto rest = LaneMask<T>::first(end - i);
            sums[1] += rest.select(term(rest.load(x + i)), Vec<T>{});
        }
        total += double(sum<Lane<T>>((sums[0] + sums[1]) + (sums[2] + sums[3])));
    }
    return total;
}

struct Moments {
    double mean, variance;
};

// Of the population: the sum of squares is of differences from the mean, so that nothing cancels.
template <typename T>
Moments moments(const T* x, Index n) {
    const double mean = sum_of(x, n, [](Vec<T> v) { return v; }) / double(n);
    const Vec<T> centre = broadcast(Lane<T>(mean));
    const double squares =
        sum_of(x, n, [&](Vec<T> v) { return (v - centre) * (v - centre); }) / double(n);
    return {mean, squares};
}

}  // namespace ai3
