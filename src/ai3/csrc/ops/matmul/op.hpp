// Matrix products: output[..., m, n] = sum over k of a[..., m, k] * b[..., k, n], the dimensions in
// front broadcast. A vector is one row as `a`, one column as `b`; the output has no dimension for
// it.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Matmul {
    static constexpr std::string_view op = "matmul";
    static constexpr bool takes_bfloat16 = true;

    Matmul(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Matmul&) { return "direct"; }

    // Elements into `a` and `b` of the matrices of product i.
    struct Offsets {
        Index a, b;
    };
    Offsets offsets(Index i) const;

    DType dtype;
    Shape shape;
    Index batch, M, K, N;
    // The dimensions in front, and matrices between neighbours along them: 0 where one is repeated.
    Shape batch_shape, a_strides, b_strides;
    int threads;
};

}  // namespace ai3
