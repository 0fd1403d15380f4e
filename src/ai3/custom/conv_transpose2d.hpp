// Your own conv_transpose2d. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/conv_transpose2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool conv_transpose2d_is_default = false;

// Every array is dense and row-major:
//   input  (N, IC, IH, IW)
//   weight (IC, OC / groups, KH, KW)
//   bias   (OC) or nullptr
//   output (N, OC, OH, OW), to be written whole
// problem.product.forward is the convolution whose gradient it is, from `output` to `input`: its
// IC, IH and IW are this one's OC, OH and OW, and the other way round (see
// ops/conv_transpose2d/op.hpp). T is float or double; to serve only one of them write an overload
// without the template. Must not throw. parallel_for of core/parallel.hpp spreads work over the
// threads of the problem. core/custom.hpp tells what else may be said of the function.
template <typename T>
void conv_transpose2d(const ConvTranspose2d& problem, const T* input, const T* weight,
                      const T* bias, T* output) = delete;

}  // namespace ai3::custom
