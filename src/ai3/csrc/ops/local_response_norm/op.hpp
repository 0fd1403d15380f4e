// Divides by the activity of neighbouring channels: with s the sum of the squares of the channels
// from c - size / 2 to c + (size - 1) / 2, output[c] = input[c] / (k + alpha / size * s)^beta.
// Input (N, C, *).
//
// Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep CNNs", 2012, section 3.3.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct LocalResponseNorm {
    static constexpr std::string_view op = "local_response_norm";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: size, alpha, beta, k.
    LocalResponseNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
                      const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const LocalResponseNorm&) { return "direct"; }

    // The channels that channel c is divided by.
    Index first(Index c) const { return std::max<Index>(c - size / 2, 0); }
    Index last(Index c) const { return std::min(c + (size - 1) / 2, C - 1); }

    DType dtype;
    Shape shape;
    Index N, C, plane, size;
    double alpha, beta, k;
    int threads;
};

}  // namespace ai3
