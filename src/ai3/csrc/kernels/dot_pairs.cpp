#include "kernels/dot_pairs.hpp"

#include <atomic>

#include "core/chains.hpp"

namespace ai3 {

namespace {

std::atomic<int> forced{-1};

}  // namespace

double measured_dot_pairs_rate() {
#if defined(__AVX512F__)
    static const double rate = [] {
        if (!__builtin_cpu_supports("avx512bf16")) return 0.0;
        const double floats = least_seconds<12>(
            [](Vec<float> sums, Vec<float> x) { return sums + in_register(x) * x; });
        const double pairs = least_seconds<12>([](Vec<float> sums, Vec<float> x) {
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
