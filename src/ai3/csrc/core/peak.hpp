#pragma once

#include "core/tensor.hpp"

namespace ai3 {

// Fused multiply-adds from registers, the best of some rounds, in GFLOP/s (2 operations each).
double fma_peak(DType dtype, int threads);

// How many multiply-adds of a vector of 512 bits the processor begins in a cycle, 1 or 2: those
// that wait for nothing take so much less than those that wait for the one before, which any such
// processor finishes in 4 cycles (Fog, "Instruction tables"). Measured once; 1 at other levels, as
// the estimates that ask it were fitted where it is. What is not limited by multiply-adds takes so
// many times as many of them.
int multiply_adds_a_cycle();

}  // namespace ai3
