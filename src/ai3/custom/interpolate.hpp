// Your own interpolate. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/interpolate/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool interpolate_is_default = false;

// Every array is dense and row-major:
//   input  (N, C, IH, IW)
//   output (N, C, OH, OW), to be written whole
// `problem` has these extents by the same names; rows and columns are the weighted elements that
// make each output element along its axis, `taps` of them (see ops/interpolate/op.hpp). T is float
// or double; to serve only one of them write an overload without the template. Must not throw.
// parallel_for of core/parallel.hpp spreads work over the threads of the problem. core/custom.hpp
// tells what else may be said of the function.
template <typename T>
void interpolate(const Interpolate& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
