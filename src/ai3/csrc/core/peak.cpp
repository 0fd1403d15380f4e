#include "core/peak.hpp"

#include <chrono>

#include "core/parallel.hpp"
#include "core/simd.hpp"

namespace ai3 {

namespace {

template <typename T>
double gflops(int threads) {
    constexpr int chains = 12;
    constexpr Index steps = 1 << 18;
    const auto burn = [](volatile T* sink) {
        // Values that differ and that the compiler cannot know, or it would merge the chains.
        Vec<T> acc[chains];
        for (int c = 0; c < chains; ++c) acc[c] = broadcast(*sink + T(c));
        const Vec<T> a = broadcast(*sink + T(0.999)), b = broadcast(*sink + T(1e-3));
        for (Index i = 0; i < steps; ++i)
#pragma GCC unroll 12
            for (int c = 0; c < chains; ++c) acc[c] = acc[c] * a + b;
        Vec<T> total{};
        for (int c = 0; c < chains; ++c) total += acc[c];
        *sink = total[0];
    };
    double best = 0;
    for (int round = 0; round < 20; ++round) {
        const auto start = std::chrono::steady_clock::now();
        parallel_for(threads, threads, [&](Index, int) {
            volatile T sink = 0;
            burn(&sink);
        });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, 2e-9 * lanes<T> * chains * steps * threads / seconds.count());
    }
    return best;
}

}  // namespace

double fma_peak(DType dtype, int threads) {
    return dtype == DType::f32 ? gflops<float>(threads) : gflops<double>(threads);
}

}  // namespace ai3
