// Arrays of float32 in halves: the bfloat16 to which each number is rounded, and what that leaves.
#pragma once

#include "core/tensor.hpp"

namespace ai3 {

// What numbers of float32 have beyond the bfloat16 to which they were rounded: both together are
// exactly what they were, but that a NaN may be another one.
class LowerHalf {
  public:
    // Writes the rounded numbers to `upper`.
    LowerHalf(const float* numbers, Index n, bfloat16* upper, int threads);

    void restore(const bfloat16* upper, float* numbers, int threads) const;
    std::size_t bytes() const { return lower_.size() + enlarged_.size(); }

  private:
    Index n_;
    Buffer lower_;     // the bits that rounding drops
    Buffer enlarged_;  // a bit for each number: whether its upper bits became one more
};

}  // namespace ai3
