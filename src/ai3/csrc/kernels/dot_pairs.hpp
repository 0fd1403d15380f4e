// Products of pairs of bfloat16, summed in float: two multiply-adds of a lane by one instruction,
// vdpbf16ps.
#pragma once

#include <optional>

#include "core/simd.hpp"

namespace ai3 {

// Whether bfloat16 is multiplied by pairs: the processor has the instruction and does more with it
// than with multiply-adds of floats, to which bfloat16 is converted elsewhere. Measured once.
bool multiplies_pairs();

// How many multiply-adds by pairs it does in the time of one of floats; 0 without the instruction.
double dot_pairs_rate();
double measured_dot_pairs_rate();

// Decides it in place of the measurement, as far as the processor can: true as where the rate is 2,
// false as without the instruction. nullopt: no more.
void force_pairs(std::optional<bool> pairs);

// Stores the lanes of two vectors of bfloat16 as pairs.
inline void store_pairs(bfloat16* p, Vec<float> first, Vec<float> second) {
    const detail::Bits32 pairs = ((detail::Bits32)first >> 16) | (detail::Bits32)second;
    store(reinterpret_cast<float*>(p), (Vec<float>)pairs);
}

#if defined(__AVX512F__)
// sums + a.first * b.first + a.second * b.second, lane by lane. Only where the processor has it.
inline void dot_pairs(Vec<float>& sums, Vec<float> a, Vec<float> b) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
}

// The pair at `p` in each lane.
inline Vec<float> broadcast_pair(const bfloat16* p) {
    std::uint32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return (Vec<float>)(pair + detail::Bits32{});
}
#endif

}  // namespace ai3
