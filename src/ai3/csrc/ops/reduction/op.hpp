// Reductions over dimensions: mean, sum, amax (the largest, NaN if one is).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

enum class Reduction : std::uint8_t { mean, sum, amax };

constexpr std::string_view name_of(Reduction function) {
    return function == Reduction::mean ? "mean" : function == Reduction::sum ? "sum" : "amax";
}

struct ReductionProblem {
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    ReductionProblem(Reduction function, const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;

    // A dimension of the input as it lies in memory, with the elements between neighbours.
    struct Dimension {
        Index extent, stride;
    };

    Reduction function;
    DType dtype;
    Spec spec;
    // From the innermost out; dimensions that are neighbours in memory too are one.
    std::vector<Dimension> kept, reduced;
    // Elements of the output as it lies in memory, and that go into one of them.
    Index size, n;
    int threads;
};

// Attributes: dim (one, several, or none for all), keepdim.
template <Reduction F>
struct ReductionOf : ReductionProblem {
    static constexpr std::string_view op = name_of(F);

    ReductionOf(const std::vector<Spec>& inputs, const WeightSet& weights,
                const Attributes& attributes, int threads)
        : ReductionProblem(F, inputs, weights, attributes, threads) {}

    static std::string_view choose(const ReductionOf&) { return "direct"; }
};

// A Member<ReductionOf<F>> for each of the operations.
template <template <typename> typename Member>
struct ForEachReduction {
    Member<ReductionOf<Reduction::mean>> mean;
    Member<ReductionOf<Reduction::sum>> sum;
    Member<ReductionOf<Reduction::amax>> amax;
};

}  // namespace ai3
