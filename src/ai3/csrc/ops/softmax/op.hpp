// Numbers that add up to 1 along the dimension `dim`: output = exp(input) / sum of exp(input),
// computed from input - max, so that nothing overflows.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Softmax {
    static constexpr std::string_view op = "softmax";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: dim, counted from the end where negative.
    Softmax(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Softmax&) { return "direct"; }

    DType dtype;
    Shape shape;
    // The input is (outer, n, inner); the sums go over n.
    Index outer, n, inner;
    int threads;
};

}  // namespace ai3
