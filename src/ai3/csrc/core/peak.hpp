#pragma once

#include "core/tensor.hpp"

namespace ai3 {

// Fused multiply-adds from registers, the best of some rounds, in GFLOP/s (2 operations each).
double fma_peak(DType dtype, int threads);

}  // namespace ai3
