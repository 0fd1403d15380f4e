#include "kernels/dot_pairs.hpp"

#include <atomic>
#include <chrono>

namespace ai3 {

namespace {

#if defined(__AVX512F__)
// Seconds that `step` takes to be done `steps` times on each of 12 vectors, the least of some
// times.
template <typename Step>
double seconds(Step step) {
    constexpr int chains = 12, steps = 1 << 11, rounds = 7;
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
#endif

std::atomic<int> forced{-1};

}  // namespace

double measured_dot_pairs_rate() {
#if defined(__AVX512F__)
    static const double rate = [] {
        if (!__builtin_cpu_supports("avx512bf16")) return 0.0;
        const double floats =
            seconds([](Vec<float> sums, Vec<float> x) { return sums + in_register(x) * x; });
        const double pairs = seconds([](Vec<float> sums, Vec<float> x) {
            dot_pairs(sums, x, x);
            return sums;
        });
        return 2 * floats / pairs;
    }();
    return rate;
#else
    return 0;
#endif
}

double dot_pairs_rate() {
    const int decided = forced.load(std::memory_order_relaxed);
    const double measured = measured_dot_pairs_rate();
    return decided < 0 ? measured : decided && measured > 0 ? 2 : 0;
}

bool multiplies_pairs() {
    constexpr double least = 1.3;
    return dot_pairs_rate() > least;
}

void force_pairs(std::optional<bool> pairs) { forced = pairs ? int(*pairs) : -1; }

}  // namespace ai3
