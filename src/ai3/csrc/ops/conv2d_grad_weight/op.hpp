// The derivative of a convolution by its weight, a correlation of input and gradient:
//
//   output[oc, ic, kh, kw] = sum over n, oh, ow of grad[n, oc, oh, ow] *
//       input[n, g * IC/groups + ic, oh * stride_h + kh * dilation_h - pad_top,
//                                    ow * stride_w + kw * dilation_w - pad_left]
//
// where g is the group of oc. Inputs: the convolution's input, and grad (N, OC, OH, OW) or (OC, OH,
// OW), the derivative by its output.
#pragma once

#include "ops/conv2d/op.hpp"

namespace ai3 {

struct Conv2dGradWeight {
    static constexpr std::string_view op = "conv2d_grad_weight";

    // Attributes: conv2d's, and kernel_size (KH, KW), which stride and output leave open.
    Conv2dGradWeight(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads);

    Spec output() const;
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Conv2dGradWeight& problem);

    Conv2d forward;
};

}  // namespace ai3
