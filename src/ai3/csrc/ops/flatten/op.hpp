// The input's elements under a shape in which the dimensions start_dim to end_dim are one. Any
// shape; a single number becomes (1,).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Flatten {
    static constexpr std::string_view op = "flatten";
    static constexpr bool takes_dtypes = true;
    static constexpr bool moves = true;

    // Attributes: start_dim, end_dim (counted from the end where negative).
    Flatten(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Flatten&) { return "direct"; }

    DType dtype;
    Shape shape;
    Index size;
    int threads;
};

}  // namespace ai3
