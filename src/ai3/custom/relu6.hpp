// Your own relu6. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/activation/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool relu6_is_default = false;

// Every array is dense and row-major:
//   input  any shape, problem.size elements
//   output the same shape, to be written whole: min(max(x, 0), 6)
// See ops/activation/op.hpp for the rest of `problem`. T is float or double; to serve only one of
// them write an overload without the template. Must not throw. parallel_for of core/parallel.hpp
// spreads work over the threads of the problem. core/custom.hpp tells what else may be said of the
// function.
template <typename T>
void relu6(const ActivationOf<Activation::relu6>& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
