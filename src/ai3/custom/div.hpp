// Your own div. Replace `= delete` by a body, run `pip install .`, and choose it as 'custom'.
#pragma once

#include "ops/arithmetic/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool div_is_default = false;

// Every array is dense and row-major:
//   a, b   broadcast to problem.shape by problem.a_strides and b_strides, 0 where repeated
//   output (shape), to be written whole
// See ops/arithmetic/op.hpp for the rest of `problem`. T is float or double; to serve only one of
// them write an overload without the template. Must not throw. parallel_for of core/parallel.hpp
// spreads work over the threads of the problem. core/custom.hpp tells what else may be said of the
// function.
template <typename T>
void div(const ArithmeticOf<Arithmetic::div>& problem, const T* a, const T* b, T* output) = delete;

}  // namespace ai3::custom
