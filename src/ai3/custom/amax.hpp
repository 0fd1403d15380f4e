// Your own amax. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/reduction/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool amax_is_default = false;

// Every array is dense and row-major:
//   input  problem.kept and problem.reduced, its dimensions from the innermost out
//   output problem.size elements, each of problem.n of the input, to be written whole
// See ops/reduction/op.hpp for the rest of `problem`. T is float or double; to serve only one of
// them write an overload without the template. Must not throw. parallel_for of core/parallel.hpp
// spreads work over the threads of the problem. core/custom.hpp tells what else may be said of the
// function.
template <typename T>
void amax(const ReductionOf<Reduction::amax>& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
