// Two-dimensional convolution (cross-correlation, as in torch):
//
//   output[n, oc, oh, ow] = bias[oc] + sum over ic, kh, kw of
//       weight[oc, ic, kh, kw] * input[n, g * IC/groups + ic,
//                                      oh * stride_h + kh * dilation_h - pad_top,
//                                      ow * stride_w + kw * dilation_w - pad_left]
//
// where g is the group of oc. Input (N, IC, IH, IW) or (IC, IH, IW), weight (OC, IC/groups, KH,
// KW). A second input is a residual: it is added to the output, whose shape and layout it has;
// then comes the activation.
#pragma once

#include "core/operation.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

enum class PaddingMode : std::uint8_t { zeros, reflect, replicate, circular };

// The element in [0, extent) that padding position `i` shows, or -1 where it shows a zero.
constexpr Index padded_source(Index i, Index extent, PaddingMode mode) {
    if (i >= 0 && i < extent) return i;
    switch (mode) {
        case PaddingMode::zeros:
            return -1;
        case PaddingMode::reflect:
            return i < 0 ? -i : 2 * (extent - 1) - i;
        case PaddingMode::replicate:
            return i < 0 ? 0 : extent - 1;
        case PaddingMode::circular:
            return i < 0 ? i + extent : i - extent;
    }
    return -1;
}

struct Conv2d {
    static constexpr std::string_view op = "conv2d";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;
    static constexpr std::size_t factors = 1;

    // Attributes: stride, padding (1, 2 or, as top, bottom, left, right, 4 integers; 'same';
    // 'valid'), dilation, groups, padding_mode; output_layout and output_dtype (those of the
    // input), activation, activation_parameter.
    Conv2d(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);

    Spec output() const;
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Conv2d& problem) { return guess(problem); }
    static std::string_view guess(const Conv2d& problem);

    // The input's and the output's: of an input in bfloat16 it may be float32, and so may the
    // weights.
    DType dtype, output_dtype;
    bool batched, has_bias;
    Index N, IC, IH, IW, OC, KH, KW, OH, OW;
    Index stride_h, stride_w, dilation_h, dilation_w, groups;
    Index pad_top, pad_bottom, pad_left, pad_right;
    // Rows of the arrays in memory: more than IH and OH where input and output are some rows of
    // them, which "direct" alone knows of.
    Index held_ih, held_oh;
    PaddingMode padding_mode;
    Layout input_layout, output_layout;
    Activation activation;
    double activation_parameter;
    bool has_residual;
    int threads;

    bool dense() const { return input_layout == Layout::dense && output_layout == Layout::dense; }
    ImageStrides input_strides() const { return {input_layout, dtype, IC, held_ih, IW}; }
    ImageStrides output_strides() const { return {output_layout, output_dtype, OC, held_oh, OW}; }
    template <typename T>
    Epilogue<T> epilogue(const void* const* inputs, const T* output) const {
        return {activation, Lane<T>(activation_parameter),
                has_residual ? static_cast<const T*>(inputs[1]) : nullptr, output};
    }
    Index group_ic() const { return IC / groups; }
    Index group_oc() const { return OC / groups; }
    bool padded() const { return pad_top || pad_bottom || pad_left || pad_right; }
    // Rows and columns that the kernel reaches, padding included.
    Index reach_h() const { return (OH - 1) * stride_h + (KH - 1) * dilation_h + 1; }
    Index reach_w() const { return (OW - 1) * stride_w + (KW - 1) * dilation_w + 1; }
};

// The refusal of algorithms that are written for NCHW alone.
inline std::string refuse_layouts(const Conv2d& p) {
    return p.dense() ? std::string{} : "it reads and writes NCHW only";
}

// The refusal of algorithms that write float32, or bfloat16 of what they read in it.
inline std::string refuse_to_narrow(const Conv2d& p) {
    return p.dtype == p.output_dtype || p.dtype == DType::bf16 ? "" : "it writes float32";
}

}  // namespace ai3
