// Your own recurrence. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/recurrence/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool recurrence_is_default = false;

// Every array is dense and row-major:
//   input     (T, N, G * H), gate by gate
//   h         (N, P), the first, or nullptr for zeros
//   c         (N, H), the first of an LSTM, or nullptr for zeros
//   weight_hh (G * H, P)
//   bias_hh   (G * H) or nullptr
//   weight_hr (P, H) or nullptr
//   output    (T, N, P) or, of an LSTM, (T + 1, N, H), to be written whole
// `problem` has these extents by the same names, and cell, reverse (see ops/recurrence/op.hpp). T
// is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_for of core/parallel.hpp spreads work over the threads of the problem.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void recurrence(const Recurrence& problem, const T* input, const T* h, const T* c,
                const T* weight_hh, const T* bias_hh, const T* weight_hr, T* output) = delete;

}  // namespace ai3::custom
