// Equal inputs in turns along the dimension `dim`: element c of the inputs' n times as many is
// element c / n of input c % n. The output is those of [start, end) (Ma et al., "ShuffleNet V2",
// ECCV'18, arXiv 1807.11164, section 3, shuffles channels so and goes on with each half). Images
// may be in blocks where the channels are taken in turns.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Interleave {
    static constexpr std::string_view op = "interleave";
    static constexpr bool takes_layouts = true;
    static constexpr bool moves = true;

    // Attributes: dim (counted from the end where negative), start (0), end (that of the whole).
    Interleave(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape, layout}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Interleave&) { return "direct"; }

    DType dtype;
    Shape shape;
    Layout layout;
    // Inputs are (outer, extent, inner).
    Index inputs, outer, extent, inner, start, end;
    int threads;
};

}  // namespace ai3
