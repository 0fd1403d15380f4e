// The largest element of each window (see window.hpp), NaN where the window has one.
#pragma once

#include "ops/maxpool2d/window.hpp"

namespace ai3 {

struct MaxPool2d : Pooling2d {
    static constexpr std::string_view op = "maxpool2d";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: kernel_size, stride, padding (at most half of kernel_size), dilation, ceil_mode.
    MaxPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const MaxPool2d&) { return "direct"; }
};

}  // namespace ai3
