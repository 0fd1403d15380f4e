// The mean over OH x OW bins that cover each plane evenly, some overlapping where the extents do
// not divide. Along each dimension bin i is the elements
//
//   from floor(i * input / output) to ceil((i + 1) * input / output), exclusive
//
// Input (N, C, IH, IW) or (C, IH, IW).
#pragma once

#include "ops/maxpool2d/window.hpp"

namespace ai3 {

struct AdaptiveAvgPool2d : Pooling2d {
    static constexpr std::string_view op = "adaptiveavgpool2d";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: output_size, where -1 keeps the input's extent.
    AdaptiveAvgPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                      const Attributes& attributes, int threads);

    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const AdaptiveAvgPool2d&) { return "direct"; }
};

}  // namespace ai3
