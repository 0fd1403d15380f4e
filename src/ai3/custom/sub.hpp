// Your own sub. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/arithmetic/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool sub_is_default = false;

// Every array is dense and row-major:
//   a, b   broadcast to problem.shape by problem.a_strides and b_strides, 0 where repeated
//   output (shape), to be written whole; problem.alpha is a factor of b, with the sign of the
//   subtraction
// See ops/arithmetic/op.hpp for the rest of `problem`. T is float or double; to serve only one of
// them write an overload without the template. Must not throw. parallel_for of core/parallel.hpp
// spreads work over the threads of the problem. core/custom.hpp tells what else may be said of the
// function.
template <typename T>
void sub(const ArithmeticOf<Arithmetic::sub>& problem, const T* a, const T* b, T* output) = delete;

}  // namespace ai3::custom
