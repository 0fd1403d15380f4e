// Fully connected layer: output[m, oc] = bias[oc] + sum over ic of weight[oc, ic] * input[m, ic].
// Input (*, IC) of one dimension or more, weight (OC, IC), bias (OC) or none, output (*, OC).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Linear {
    static constexpr std::string_view op = "linear";

    Linear(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Linear& problem);

    DType dtype;
    bool has_bias;
    Shape shape;
    // M is the product of the input's dimensions but the last.
    Index M, IC, OC;
    int threads;
};

}  // namespace ai3
