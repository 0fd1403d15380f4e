// Your own flatten. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/flatten/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool flatten_is_default = false;

// Every array is dense and row-major:
//   input  any shape, problem.size elements
//   output problem.shape, the same number of elements, to be written whole
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_ranges of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void flatten(const Flatten& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
