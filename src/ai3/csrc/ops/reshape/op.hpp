// The input's elements under another shape.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Reshape {
    static constexpr std::string_view op = "reshape";
    static constexpr bool takes_dtypes = true;
    static constexpr bool moves = true;

    // Attributes: shape, in which one extent may be -1, which is then what the elements need.
    Reshape(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Reshape&) { return "direct"; }

    DType dtype;
    Shape shape;
    int threads;
};

}  // namespace ai3
