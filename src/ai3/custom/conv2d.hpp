// Your own conv2d. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/conv2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool conv2d_is_default = false;

// Every array is dense and row-major:
//   input  (N, IC, IH, IW)
//   weight (OC, IC / groups, KH, KW)
//   bias   (OC) or nullptr
//   output (N, OC, OH, OW), to be written whole
// `problem` has these extents by the same names, and stride_h, stride_w, dilation_h, dilation_w,
// pad_top, pad_left, padding_mode, groups (see ops/conv2d/op.hpp). T is float or double; to serve
// only one of them write an overload without the template. Must not throw. parallel_for of
// core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void conv2d(const Conv2d& problem, const T* input, const T* weight, const T* bias,
            T* output) = delete;

}  // namespace ai3::custom
