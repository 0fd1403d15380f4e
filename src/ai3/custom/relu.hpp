// Your own relu. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/relu/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool relu_is_default = false;

// Every array is dense and row-major:
//   input  any shape, problem.size elements
//   output the same, to be written whole
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_ranges of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void relu(const Relu& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
