// Images (N, C, H, W) or (C, H, W) in another layout; they, and other arrays, in another dtype.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Reorder {
    static constexpr std::string_view op = "reorder";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: layout (dense, channels_last, blocked), output_dtype.
    Reorder(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return {output_dtype, shape, output_layout}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Reorder&) { return "direct"; }

    ImageStrides input_strides() const { return {input_layout, dtype, C, H, W}; }
    ImageStrides output_strides() const { return {output_layout, output_dtype, C, H, W}; }

    DType dtype, output_dtype;
    Shape shape;
    Layout input_layout, output_layout;
    Index N, C, H, W;
    int threads;
};

}  // namespace ai3
