#include "core/halves.hpp"

#include <algorithm>
#include <bit>

#include "core/parallel.hpp"

namespace ai3 {

namespace {

constexpr Index word = 64;  // numbers whose bits lie in one word of `enlarged_`

Index words(Index n) { return (n + word - 1) / word; }

// Calls f(w, begin, end) for each word and the numbers that it is for.
template <typename F>
void each_word(Index n, int threads, F&& f) {
    constexpr Index grain = 256;
    parallel_ranges(threads, words(n), grain, [&](Index first, Index last) {
        for (Index w = first; w < last; ++w) f(w, w * word, std::min(n, (w + 1) * word));
    });
}

}  // namespace

LowerHalf::LowerHalf(const float* numbers, Index n, bfloat16* upper, int threads)
    : n_(n),
      lower_(std::size_t(n) * sizeof(std::uint16_t)),
      enlarged_(std::size_t(words(n)) * sizeof(std::uint64_t)) {
    auto* const lower = lower_.as<std::uint16_t>();
    auto* const enlarged = enlarged_.as<std::uint64_t>();
    each_word(n, threads, [&](Index w, Index begin, Index end) {
        std::uint64_t bits = 0;
        for (Index i = begin; i < end; ++i) {
            const auto whole = std::bit_cast<std::uint32_t>(numbers[i]);
            upper[i] = bfloat16(numbers[i]);
            lower[i] = std::uint16_t(whole);
            bits |= std::uint64_t(upper[i].bits == std::uint16_t((whole >> 16) + 1)) << (i - begin);
        }
        enlarged[w] = bits;
    });
}

void LowerHalf::restore(const bfloat16* upper, float* numbers, int threads) const {
    const auto* const lower = lower_.as<std::uint16_t>();
    const auto* const enlarged = enlarged_.as<std::uint64_t>();
    each_word(n_, threads, [&](Index w, Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            const auto one = std::uint32_t(enlarged[w] >> (i - begin) & 1);
            numbers[i] = std::bit_cast<float>((upper[i].bits - one) << 16 | lower[i]);
        }
    });
}

}  // namespace ai3
