// What is computed of the elements along one dimension, each line by itself:
//
//   argmax, argmin   the place of the first largest or smallest, int64
//   prod             the product
//   cumsum, cumprod  the sums or products up to each element
//   sort, argsort    the elements in order, or where they were, int64; equal ones keep theirs
//
// NaN is larger than every number to what orders, and is what argmin finds too. Attributes: dim
// (all dimensions as one where it is absent), keepdim of the first three, descending of the last
// two. Sums and products of float32 are in double.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

enum class Line : std::uint8_t { argmax, argmin, prod, cumsum, cumprod, sort, argsort };

constexpr std::string_view name_of(Line function) {
    constexpr std::string_view names[] = {"argmax",  "argmin", "prod",   "cumsum",
                                          "cumprod", "sort",   "argsort"};
    return names[std::size_t(function)];
}

struct LineProblem {
    static constexpr bool takes_dtypes = true;

    LineProblem(Line function, const std::vector<Spec>& inputs, const WeightSet& weights,
                const Attributes& attributes, int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;

    bool gives_one() const { return function <= Line::prod; }

    Line function;
    DType dtype;  // the input's
    Spec spec;
    // The input is (outer, extent, inner).
    Index outer, extent, inner;
    bool descending;
    int threads;
};

template <Line F>
struct LineOf : LineProblem {
    static constexpr std::string_view op = name_of(F);

    LineOf(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads)
        : LineProblem(F, inputs, weights, attributes, threads) {}

    static std::string_view choose(const LineOf&) { return "direct"; }
};

// A Member<LineOf<F>> for each of the operations.
template <template <typename> typename Member>
struct ForEachLine {
    Member<LineOf<Line::argmax>> argmax;
    Member<LineOf<Line::argmin>> argmin;
    Member<LineOf<Line::prod>> prod;
    Member<LineOf<Line::cumsum>> cumsum;
    Member<LineOf<Line::cumprod>> cumprod;
    Member<LineOf<Line::sort>> sort;
    Member<LineOf<Line::argsort>> argsort;
};

// Whether x comes before y in ascending order: NaN last.
template <typename T>
bool before(T x, T y) {
    return x < y || (y != y && x == x);
}

}  // namespace ai3
