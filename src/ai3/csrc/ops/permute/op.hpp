// The input with its dimensions in another order: dimension d of the output is dimension dims[d] of
// the input.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Permute {
    static constexpr std::string_view op = "permute";

    // Attributes: dims, counted from the end where negative.
    Permute(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Permute&) { return "direct"; }

    DType dtype;
    // The output's, and between neighbours along it the elements in the input.
    Shape shape, strides;
    int threads;
};

}  // namespace ai3
