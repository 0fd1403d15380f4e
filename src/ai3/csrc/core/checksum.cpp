#include "core/checksum.hpp"

#include <cstring>
#include <vector>

#include "core/fork.hpp"
#include "core/parallel.hpp"

namespace ai3 {

namespace {

typedef std::uint64_t Words __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias));
typedef std::uint64_t Unaligned
    __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias, aligned(1)));

// Chains at a time, as a step waits for the one before.
constexpr int chains = 8;
constexpr std::size_t block = chains * sizeof(Words);
// What one thread takes at a time.
constexpr std::size_t part = std::size_t{64} << 10;
constexpr double least_bytes = 256 << 10;
static_assert(part % block == 0);

// One step of a chain: one-to-one in `hash` for each word and in `word` for each hash, so that two
// chains that differ in one word end apart.
template <typename U>
[[gnu::always_inline]] inline U step(U hash, U word) {
    hash += word;
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15u;
}

std::uint64_t checksum_of_part(const std::byte* from, std::size_t bytes) {
    Words hash[chains] = {};
    const auto add = [&](const std::byte* p) {
        for (int c = 0; c < chains; ++c)
            hash[c] =
                step<Words>(hash[c], *reinterpret_cast<const Unaligned*>(p + c * sizeof(Words)));
    };
    std::size_t at = 0;
    for (; at + block <= bytes; at += block) add(from + at);
    if (at < bytes) {
        std::byte last[block] = {};
        std::memcpy(last, from + at, bytes - at);
        add(last);
    }
    std::uint64_t whole = bytes;
    for (const Words& words : hash)
        for (std::size_t w = 0; w < sizeof(Words) / sizeof(std::uint64_t); ++w)
            whole = step<std::uint64_t>(whole, words[w]);
    return whole;
}

}  // namespace

std::uint64_t checksum(const void* memory, std::size_t bytes) {
    const auto* from = static_cast<const std::byte*>(memory);
    if (bytes <= part) return checksum_of_part(from, bytes);
    std::vector<std::uint64_t> parts((bytes + part - 1) / part);
    parallel_for(threads_worth(double(bytes), least_bytes, usable_threads()), Index(parts.size()),
                 [&](Index i, int) {
                     const std::size_t begin = std::size_t(i) * part;
                     parts[std::size_t(i)] =
                         checksum_of_part(from + begin, std::min(part, bytes - begin));
                 });
    std::uint64_t whole = bytes;
    for (const std::uint64_t of_part : parts) whole = step(whole, of_part);
    return whole;
}

}  // namespace ai3
