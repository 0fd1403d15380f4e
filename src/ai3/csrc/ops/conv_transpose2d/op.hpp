// Transposed convolution: the derivative, by its input, of the convolution with the same weight,
// plus a bias. Input (N, IC, IH, IW) or (IC, IH, IW), weight (IC, OC/groups, KH, KW), bias (OC) or
// none. OH = (IH - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1, OW
// likewise.
#pragma once

#include "ops/conv2d_grad_input/op.hpp"

namespace ai3 {

struct ConvTranspose2d {
    static constexpr std::string_view op = "conv_transpose2d";
    static constexpr bool takes_bfloat16 = true;
    static constexpr std::size_t factors = 1;

    // Attributes: stride, padding, output_padding, groups, dilation, output_dtype.
    ConvTranspose2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                    const Attributes& attributes, int threads);

    Spec output() const { return {output_dtype, product.output().shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const ConvTranspose2d& p) {
        return Conv2dGradInput::choose(p.product);
    }

    // All but the bias. Of bfloat16 it is float32 where there is a bias, to be rounded once.
    Conv2dGradInput product;
    DType output_dtype;
    Index planes, OC, plane;
    int threads;
};

}  // namespace ai3
