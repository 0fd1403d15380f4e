// Normalises over the last dimensions: output = (input - mean) / sqrt(variance + eps) * weight +
// bias, mean and variance being those of each slice of shape normalized_shape. Weight and bias are
// of that shape, or none.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct LayerNorm {
    static constexpr std::string_view op = "layer_norm";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: normalized_shape, eps.
    LayerNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const LayerNorm&) { return "direct"; }

    DType dtype;
    Shape shape;
    // Slices, and elements of each.
    Index M, n;
    double eps;
    int threads;
};

}  // namespace ai3
