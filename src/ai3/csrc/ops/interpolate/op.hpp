// Images at another size. Input (N, C, IH, IW), output (N, C, OH, OW); along each axis an output
// element is a weighted sum of input elements, its taps: 1 where the mode is 'nearest' or
// 'nearest-exact', 2 where it is 'bilinear', 4 where 'bicubic' (Keys, 1981, with a = -0.75).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

// For each output element along an axis, `taps` input elements and their weights.
struct AxisTaps {
    std::vector<Index> index;
    std::vector<double> weight;
};

struct Interpolate {
    static constexpr std::string_view op = "interpolate";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: size (OH, OW) or scale_factor (one number or two), mode, align_corners,
    // recompute_scale_factor.
    Interpolate(const std::vector<Spec>& inputs, const WeightSet& weights,
                const Attributes& attributes, int threads);

    Spec output() const { return {dtype, {N, C, OH, OW}}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Interpolate&) { return "direct"; }

    DType dtype;
    Index N, C, IH, IW, OH, OW;
    int taps;
    AxisTaps rows, columns;
    int threads;
};

}  // namespace ai3
