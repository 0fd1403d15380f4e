// Your own conv2d_grad_input. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/conv2d_grad_input/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool conv2d_grad_input_is_default = false;

// Every array is dense and row-major:
//   grad   (N, OC, OH, OW)
//   weight (OC, IC / groups, KH, KW)
//   output (N, IC, IH, IW), to be written whole
// problem.forward is the convolution, with these extents by the same names (see
// ops/conv2d_grad_input/op.hpp). T is float or double; to serve only one of them write an overload
// without the template. Must not throw. parallel_for of core/parallel.hpp spreads work over the
// threads of the problem. core/custom.hpp tells what else may be said of the function.
template <typename T>
void conv2d_grad_input(const Conv2dGradInput& problem, const T* grad, const T* weight,
                       T* output) = delete;

}  // namespace ai3::custom
