#include "core/peak.hpp"

#include <chrono>
#include <numeric>

#include "core/chains.hpp"
#include "core/parallel.hpp"
#include "core/simd.hpp"
#include "kernels/dot_pairs.hpp"

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
    // Each thread is timed by itself, so that one that is held up does not spoil the others.
    std::vector<double> best(std::size_t(threads), 0.0);
#pragma omp parallel num_threads(threads)
    for (int round = 0; round < 20; ++round) {
        volatile T sink = 0;
        const auto start = std::chrono::steady_clock::now();
        burn(&sink);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        double& own = best[std::size_t(omp_get_thread_num())];
        own = std::max(own, 2e-9 * lanes<T> * chains * steps / seconds.count());
    }
    return std::accumulate(best.begin(), best.end(), 0.0);
}

}  // namespace

int multiply_adds_a_cycle() {
#if defined(__AVX512F__)
    // 12 chains take 3 times as long as one where one begins in a cycle, 1.5 times where two do.
    static const bool two = [] {
        const auto step = [](Vec<float> sum, Vec<float> x) { return sum * x + x; };
        return least_seconds<12>(step) < 2.1 * least_seconds<1>(step);
    }();
    return two ? 2 : 1;
#else
    return 1;
#endif
}

double fma_peak(DType dtype, int threads) {
    if (dtype == DType::bf16) return measured_dot_pairs_rate() * gflops<float>(threads);
    return dtype == DType::f32 ? gflops<float>(threads) : gflops<double>(threads);
}

}  // namespace ai3
