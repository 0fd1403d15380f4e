// The derivative of a convolution by its bias: output[oc] = sum over n, oh, ow of
// grad[n, oc, oh, ow]. grad (N, OC, OH, OW) or (OC, OH, OW).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Conv2dGradBias {
    static constexpr std::string_view op = "conv2d_grad_bias";

    Conv2dGradBias(const std::vector<Spec>& inputs, const WeightSet& weights,
                   const Attributes& attributes, int threads);

    Spec output() const { return {dtype, {OC}}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Conv2dGradBias&) { return "direct"; }

    DType dtype;
    Index N, OC, P;
    int threads;
};

}  // namespace ai3
