// A pointwise convolution that expands the channels and the depthwise convolution after it, as
// inverted residual blocks begin (Sandler et al., "MobileNetV2", CVPR'18, arXiv 1801.04381), as one
// operation: the expanded image, the largest of such a network, need not be whole in memory.
// Weights are those of the pointwise convolution and of the depthwise one, (E, IC, 1, 1), (E) or
// none, (E, 1, KH, KW), (E) or none, for input (N, IC, IH, IW) and output (N, E, OH, OW).
#pragma once

#include "ops/conv2d/op.hpp"

namespace ai3 {

struct ExpandDepthwise {
    static constexpr std::string_view op = "expand_depthwise";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: stride, padding, dilation, activation, activation_parameter, output_dtype of the
    // depthwise convolution; expand_activation, expand_activation_parameter of the pointwise one.
    ExpandDepthwise(const std::vector<Spec>& inputs, const WeightSet& weights,
                    const Attributes& attributes, int threads);

    Spec output() const { return depthwise.output(); }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const ExpandDepthwise&) { return "direct"; }

    // Their weights, the channels [begin, end) of the expanded image. That is float32 where the
    // input is bfloat16, and so are the second ones.
    static WeightSet expand_weights(const WeightSet& weights, Index begin, Index end);
    static WeightSet depthwise_weights(const WeightSet& weights, Index begin, Index end);

    Conv2d expand, depthwise;
    int threads;
};

}  // namespace ai3
