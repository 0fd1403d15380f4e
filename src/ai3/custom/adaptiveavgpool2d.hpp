// Your own adaptiveavgpool2d. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/adaptiveavgpool2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool adaptiveavgpool2d_is_default = false;

// Every array is dense and row-major:
//   input  (N, C, IH, IW)
//   output (N, C, OH, OW), to be written whole
// `problem` has these extents by the same names; bin(oh, problem.IH, problem.OH) has the rows
// that output row oh covers, begin and count (see ops/adaptiveavgpool2d/op.hpp).
// T is float or double; to serve only one of them write an overload without the template. Must not
// throw. parallel_for of core/parallel.hpp spreads work over problem.threads threads.
// core/custom.hpp tells what else may be said of the function.
template <typename T>
void adaptiveavgpool2d(const AdaptiveAvgPool2d& problem, const T* input, T* output) = delete;

}  // namespace ai3::custom
