// Your own conv2d_grad_weight. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/conv2d_grad_weight/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool conv2d_grad_weight_is_default = false;

// Every array is dense and row-major:
//   input  (N, IC, IH, IW)
//   grad   (N, OC, OH, OW)
//   output (OC, IC / groups, KH, KW), to be written whole
// problem.forward is the convolution, with these extents by the same names (see
// ops/conv2d_grad_weight/op.hpp). T is float or double; to serve only one of them write an overload
// without the template. Must not throw. parallel_for of core/parallel.hpp spreads work over the
// threads of the problem. core/custom.hpp tells what else may be said of the function.
template <typename T>
void conv2d_grad_weight(const Conv2dGradWeight& problem, const T* input, const T* grad,
                        T* output) = delete;

}  // namespace ai3::custom
