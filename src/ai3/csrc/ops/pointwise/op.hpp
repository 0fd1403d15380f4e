// One pass of a program of functions over arrays, element by element; see Program and Broadcast.
// Attribute: program. Inputs of any dtypes, at least one. Images in other layouts than dense must,
// as the output, be of one dtype, and in blocks have whole ones. A program computes with bfloat16
// as float32; a result of float32 is bfloat16 where an input is and none is float32.
#pragma once

#include "core/operation.hpp"
#include "ops/pointwise/program.hpp"

namespace ai3 {

struct Pointwise {
    static constexpr std::string_view op = "pointwise";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_dtypes = true;
    static constexpr bool takes_bfloat16 = true;

    Pointwise(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Pointwise&) { return "direct"; }

    Program program;
    std::vector<DType> dtypes;  // the inputs'
    Spec spec;
    // See Broadcast.
    Shape held;
    std::vector<Shape> strides;
    Index size;
    int threads;
};

}  // namespace ai3
