// Rectified linear unit: output = max(input, 0) for each element, NaN stays NaN. Any shape.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Relu {
    static constexpr std::string_view op = "relu";

    Relu(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Relu& problem);

    DType dtype;
    Shape shape;
    Index size;
    int threads;
};

}  // namespace ai3
