// The input with its dimensions in another order: dimension d of the output is dimension dims[d] of
// the input. Both may have the channels last: then images of pixels (N, H, W, C) become (N, C, H,
// W), or the other way round, without any element moving.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Permute {
    static constexpr std::string_view op = "permute";
    static constexpr bool takes_dtypes = true;
    static constexpr bool moves = true;
    static constexpr bool takes_layouts = true;

    // Attributes: dims, counted from the end where negative; output_layout (dense or
    // channels_last).
    Permute(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Permute&) { return "direct"; }

    DType dtype;
    Spec spec;
    // The extents of the output's memory, and between neighbours along them the elements in the
    // input.
    Shape shape, strides;
    int threads;
};

}  // namespace ai3
