// Your own batch_norm. Replace `= delete` by a body, run `pip install .`, and choose it as
// 'custom'.
#pragma once

#include "ops/batchnorm2d/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool batch_norm_is_default = false;

// Every array is dense and row-major:
//   input    (N, C, plane)
//   weight   (C) or nullptr
//   bias     (C) or nullptr
//   mean     (C)
//   variance (C)
//   output   (N, C, plane), to be written whole
// `problem` has these extents by the same names, and eps (see ops/batchnorm2d/op.hpp). T is float
// or double; to serve only one of them write an overload without the template. Must not throw.
// parallel_for of core/parallel.hpp spreads work over the threads of the problem. core/custom.hpp
// tells what else may be said of the function.
template <typename T>
void batch_norm(const BatchNorm& problem, const T* input, const T* weight, const T* bias,
                const T* mean, const T* variance, T* output) = delete;

}  // namespace ai3::custom
