// The sum of each window (see window.hpp) divided by divisor_override where that is given, else by
// the number of the window's elements: inside of the plane, or, with count_include_pad, inside of
// the padded plane.
#pragma once

#include <optional>

#include "ops/maxpool2d/window.hpp"

namespace ai3 {

struct AvgPool2d : Pooling2d {
    static constexpr std::string_view op = "avgpool2d";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: kernel_size, stride, padding (at most half of kernel_size), ceil_mode,
    // count_include_pad, divisor_override (not 0).
    AvgPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const AvgPool2d&) { return "direct"; }

    // The divisor of output (oh, ow) is divisor_h(oh) * divisor_w(ow).
    Index divisor_h(Index oh) const {
        return divisor_override ? *divisor_override : counted(oh, IH, KH, stride_h, pad_h);
    }
    Index divisor_w(Index ow) const {
        return divisor_override ? 1 : counted(ow, IW, KW, stride_w, pad_w);
    }

    bool count_include_pad;
    std::optional<Index> divisor_override;

  private:
    Index counted(Index o, Index extent, Index kernel, Index stride, Index pad) const {
        const Index margin = count_include_pad ? pad : 0, start = o * stride - pad;
        return std::min(start + kernel, extent + margin) - std::max(start, -margin);
    }
};

}  // namespace ai3
