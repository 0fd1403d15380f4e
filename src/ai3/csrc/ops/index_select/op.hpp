// Elements chosen by integers that the network computes, int64 or int32, counted from the end where
// negative. Inputs: the array, the indices. An index that is out of range gives NaN, of integers
// the least, of bool False.
//
//   index_select  along dimension `dim` a slice for each index: the indices' shape takes its place
//   gather        output[i][j][k] = input[index[i][j][k]][j][k] where dim is 0, and so on
//   scatter       output[index[i][j][k]][j][k] = source[i][j][k] where dim is 0, and so on; the
//                 array's elsewhere. The third input is the source. Attribute reduce: "set" writes,
//                 the last of several, "sum", "prod", "amax" and "amin" combine with what is there.
//                 An index out of range makes of its whole line along dim what it gives above.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct IndexProblem {
    static constexpr bool takes_dtypes = true;

    IndexProblem(std::string_view op, const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads);

    Spec output() const { return spec; }

    DType dtype, index_dtype;
    Spec spec;
    std::size_t dim;
    Shape shape, index_shape;  // the inputs'
    int threads;
};

struct IndexSelect : IndexProblem {
    static constexpr std::string_view op = "index_select";
    IndexSelect(const std::vector<Spec>& inputs, const WeightSet& weights,
                const Attributes& attributes, int threads);
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const IndexSelect&) { return "direct"; }

    // The array is (outer, extent, inner) elements.
    Index outer, extent, inner, count;
};

struct Gather : IndexProblem {
    static constexpr std::string_view op = "gather";
    Gather(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Gather&) { return "direct"; }
};

enum class Write : std::uint8_t { set, sum, prod, amax, amin };

struct Scatter : IndexProblem {
    static constexpr std::string_view op = "scatter";
    Scatter(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
            int threads);
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Scatter&) { return "direct"; }

    Shape source_shape;
    Write write;
};

// What is in the array's place after `value` was written over `old`; integers wrap around.
template <typename T>
inline T written(Write write, bool is_bool, T old, T value) {
    using Wrapping = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;
    T result = value;
    if (write == Write::sum) result = T(Wrapping(old) + Wrapping(value));
    if (write == Write::prod) result = T(Wrapping(old) * Wrapping(value));
    if (write == Write::amax && !(value > old || value != value)) result = old;
    if (write == Write::amin && !(value < old || value != value)) result = old;
    return is_bool ? T(result != 0) : result;
}

// Index number i, from the front; negative where it is out of range.
inline Index index_at(DType dtype, const void* indices, Index i, Index extent) {
    Index at = dtype == DType::i32 ? Index(static_cast<const std::int32_t*>(indices)[i])
                                   : static_cast<const std::int64_t*>(indices)[i];
    if (at < 0) at += extent;
    return at < extent ? at : -1;
}

// Element number `to` of the output is element `from` of the input, or that of none.
void put_element(DType dtype, const void* input, Index from, void* output, Index to);

}  // namespace ai3
