// Whether memory still holds what it held.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"

namespace ai3 {

// 64 bits that depend on every bit of `bytes` bytes. Memory that differs in one aligned word of
// eight bytes has another checksum, other memory of the same size but for one time in 2^64. On as
// many threads as may be used; their number does not change it.
std::uint64_t checksum(const void* memory, std::size_t bytes);

}  // namespace ai3
