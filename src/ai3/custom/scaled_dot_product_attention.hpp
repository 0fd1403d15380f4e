// Your own scaled_dot_product_attention. Replace `= delete` by a body, run `pip install .`, and
// choose it as 'custom'.
#pragma once

#include "ops/scaled_dot_product_attention/op.hpp"

namespace ai3::custom {

// true: 'default' stands for this implementation wherever it can be used.
constexpr bool scaled_dot_product_attention_is_default = false;

// Every array is dense and row-major:
//   query  (batch, L, E)
//   key    (batch, S, E)
//   value  (batch, S, EV)
//   mask   nullptr, or broadcast to (batch, L, S) by problem.mask_offset and mask_strides
//   output (batch, L, EV), to be written whole
// `problem` has these extents by the same names, and scale, is_causal (see
// ops/scaled_dot_product_attention/op.hpp). T is float or double; to serve only one of them write
// an overload without the template. Must not throw. parallel_for of core/parallel.hpp spreads work
// over the threads of the problem. core/custom.hpp tells what else may be said of the function.
template <typename T>
void scaled_dot_product_attention(const ScaledDotProductAttention& problem, const T* query,
                                  const T* key, const T* value, const T* mask, T* output) = delete;

}  // namespace ai3::custom
