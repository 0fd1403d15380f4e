// Normalises over groups of channels: output = (input - mean) / sqrt(variance + eps) * weight +
// bias, mean and variance being those of each image's group. Input (N, C, *), weight and bias (C,)
// or none.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct GroupNorm {
    static constexpr std::string_view op = "group_norm";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: num_groups, eps.
    GroupNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const GroupNorm&) { return "direct"; }

    DType dtype;
    Shape shape;
    // `plane` is the elements of a channel.
    Index N, C, plane, groups;
    double eps;
    int threads;
};

}  // namespace ai3
