// Rectified linear unit: output = max(input, 0) for each element, NaN stays NaN. Any shape and
// layout.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Relu {
    static constexpr std::string_view op = "relu";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    Relu(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads);

    Spec output() const { return spec; }
    bool dense() const { return spec.layout == Layout::dense; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Relu&) { return "direct"; }

    DType dtype;
    Spec spec;
    Shape shape;
    Index size;
    int threads;
};

}  // namespace ai3
