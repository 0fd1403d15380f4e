// Your own local_response_norm. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/local_response_norm/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool local_response_norm_is_default = false;

// Every array is dense and row-major:
//   input  (N, C, plane)
//   output (N, C, plane), to be written whole
// `problem` has these extents by the same names, and size, alpha, beta, k (see
// ops/local_response_norm/op.hpp). T is float or double; to serve only one of them write an
// overload without the template. Must not throw. parallel_for of core/parallel.hpp spreads work
// over the threads of the problem. core/custom.hpp tells what else may be said of the function.
template <typename T>
void local_response_norm(const LocalResponseNorm& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
