// Your own maxpool2d. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/maxpool2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool maxpool2d_is_default = false;

// Every array is dense and row-major:
//   input  (N, C, IH, IW)
//   output (N, C, OH, OW), to be written whole
// `problem` has these extents by the same names, and KH, KW, stride_h, stride_w, pad_h, pad_w,
// dilation_h, dilation_w (see ops/maxpool2d/window.hpp).
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_for of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void maxpool2d(const MaxPool2d& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
