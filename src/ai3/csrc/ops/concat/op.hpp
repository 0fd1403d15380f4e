// The inputs one after the other along the dimension `dim`; all other extents are equal. Images may
// be in another layout than dense, all in the same: then along the images or the channels, which in
// all inputs but the last are whole blocks.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct Concat {
    static constexpr std::string_view op = "concat";
    static constexpr bool takes_dtypes = true;
    static constexpr bool moves = true;
    static constexpr bool takes_layouts = true;
    static constexpr std::size_t max_inputs = 64;

    // Attributes: dim (counted from the end where negative).
    Concat(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);

    Spec output() const { return {dtype, shape, layout}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Concat&) { return "direct"; }

    DType dtype;
    Shape shape;
    Layout layout;
    // The output is `rows` rows, in each of which input i has elements [begin[i], begin[i + 1]).
    Index rows;
    std::vector<Index> begin;
    int threads;
};

// The inputs, all of one shape, along a new dimension. Attributes: dim.
struct Stack : Concat {
    static constexpr std::string_view op = "stack";

    Stack(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
          int threads);

    static std::string_view choose(const Stack&) { return "direct"; }
};

}  // namespace ai3
