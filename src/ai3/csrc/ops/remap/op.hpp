// Operations whose output is made of the input's elements, dimension by dimension: see Remap.
#pragma once

#include "core/operation.hpp"
#include "kernels/remap.hpp"

namespace ai3 {

struct RemapProblem {
    static constexpr bool takes_dtypes = true;
    static constexpr bool moves = true;

    RemapProblem(std::string_view op, const std::vector<Spec>& inputs, const WeightSet& weights,
                 int threads);

    Spec output() const { return {dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;

    DType dtype;
    // The output's; where that is empty, the remap is not made.
    Shape shape;
    Remap remap;
    int threads;

  protected:
    void set(Remap made);
};

// Every step-th of the elements [start, end) along one dimension, both counted from the end where
// negative and then clipped to the input, as in Python. Attributes: dim, start, end, step.
struct Slice : RemapProblem {
    static constexpr std::string_view op = "slice";
    Slice(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
          int threads);
    static std::string_view choose(const Slice&) { return "direct"; }
};

// Elements move on by `shifts` along `dims`, those beyond the end to the beginning; along the
// flattened array where there are no dims. Attributes: shifts, dims.
struct Roll : RemapProblem {
    static constexpr std::string_view op = "roll";
    Roll(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads);
    static std::string_view choose(const Roll&) { return "direct"; }
    Spec output() const { return {dtype, rolled}; }

    Shape rolled;
};

// Elements added, or where negative removed, before and after the last dimension, the one before
// that and so on. Attributes: pad, mode ('constant', 'reflect', 'replicate', 'circular'), value.
struct Pad : RemapProblem {
    static constexpr std::string_view op = "pad";
    Pad(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
        int threads);
    static std::string_view choose(const Pad&) { return "direct"; }
};

// The input repeated along dimensions of extent 1 and along new ones in front. Attributes: shape,
// -1 being the input's extent.
struct Expand : RemapProblem {
    static constexpr std::string_view op = "expand";
    Expand(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);
    static std::string_view choose(const Expand&) { return "direct"; }
};

// The elements in the opposite order along the dimensions `dims`.
struct Flip : RemapProblem {
    static constexpr std::string_view op = "flip";
    Flip(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads);
    static std::string_view choose(const Flip&) { return "direct"; }
};

// The elements at the places `indices`, counted from the end where negative, along dimension `dim`.
struct Take : RemapProblem {
    static constexpr std::string_view op = "take";
    Take(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads);
    static std::string_view choose(const Take&) { return "direct"; }
};

}  // namespace ai3
