// Your own linear. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/linear/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool linear_is_default = false;

// Every array is dense and row-major:
//   input  (M, IC), M being the product of all leading dimensions
//   weight (OC, IC)
//   bias   (OC) or nullptr
//   output (M, OC), to be written whole
// `problem` has these extents by the same names (see ops/linear/op.hpp).
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_for of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void linear(const Linear& problem, const T* input, const T* weight, const T* bias,
            T* output) = delete;

}  // namespace ai3::custom
