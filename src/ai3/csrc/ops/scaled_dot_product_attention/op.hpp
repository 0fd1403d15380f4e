// Attention: output = softmax(query * key^T * scale + mask) * value, the softmax over keys. Query
// (*, L, E), key (*, S, E), value (*, S, EV), output (*, L, EV), the dimensions in front equal; the
// optional mask is broadcast to (*, L, S). A query that the mask keeps from all keys gives zeros.
//
// Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, 3.2.1.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct ScaledDotProductAttention {
    static constexpr std::string_view op = "scaled_dot_product_attention";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: scale (1 / sqrt(E) where absent), is_causal (query i sees the keys 0 to i).
    ScaledDotProductAttention(const std::vector<Spec>& inputs, const WeightSet& weights,
                              const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const ScaledDotProductAttention&) { return "direct"; }

    // Keys that query l may see, and the mask's elements for item i of the batch.
    Index keys(Index l) const { return is_causal ? std::min(l + 1, S) : S; }
    bool has_mask() const { return given == 4; }
    Index mask_offset(Index i) const;

    DType dtype;
    Shape shape;
    Index batch, L, S, E, EV;
    double scale;
    bool is_causal;
    std::size_t given;  // how many inputs
    // Elements between neighbours of the mask along each dimension of (*, L, S), 0 where repeated.
    Shape scores_shape, mask_strides;
    int threads;
};

}  // namespace ai3
