// Element-wise sum: output = a + alpha * b, the shapes broadcast as in numpy.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Add {
    static constexpr std::string_view op = "add";

    // Attributes: alpha.
    Add(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
        int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Add&) { return "direct"; }

    DType dtype;
    Shape shape;
    // Elements between neighbours along each dimension of `shape`, 0 where an input is repeated.
    Shape a_strides, b_strides;
    Index size;
    double alpha;
    int threads;
};

}  // namespace ai3
