// Your own matmul. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/matmul/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool matmul_is_default = false;

// Every array is dense and row-major:
//   a      matrices (M, K), that of product i at a + problem.offsets(i).a
//   b      matrices (K, N), that of product i at b + problem.offsets(i).b
//   output (batch, M, N), to be written whole
// `problem` has these extents by the same names (see ops/matmul/op.hpp). T is float or double; to
// serve only one of them write an overload without the template. Must not throw. parallel_for of
// core/parallel.hpp spreads work over the threads of the problem. core/custom.hpp tells what else
// may be said of the function.
template <typename T>
void matmul(const Matmul& problem, const T* a, const T* b, T* output) = delete;

}  // namespace ai3::custom
