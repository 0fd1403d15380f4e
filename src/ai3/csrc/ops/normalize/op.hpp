// Vectors of length 1 along the dimension `dim`: output = input / max(||input||, eps), the norm
// Euclidean.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Normalize {
    static constexpr std::string_view op = "normalize";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: dim (counted from the end where negative), eps.
    Normalize(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Normalize&) { return "direct"; }

    DType dtype;
    Shape shape;
    // The input is (outer, n, inner); the vectors go along n.
    Index outer, n, inner;
    double eps;
    int threads;
};

}  // namespace ai3
