// Your own avgpool2d. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/avgpool2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool avgpool2d_is_default = false;

// Every array is dense and row-major:
//   input  (N, C, IH, IW)
//   output (N, C, OH, OW), to be written whole
// `problem` has these extents by the same names, and KH, KW, stride_h, stride_w, pad_h, pad_w,
// divisor_h(oh), divisor_w(ow) (see ops/avgpool2d/op.hpp).
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_for of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void avgpool2d(const AvgPool2d& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
