#include "ops/index_select/op.hpp"

#include <algorithm>

#include "core/shape.hpp"

namespace ai3 {

void put_element(DType dtype, const void* input, Index from, void* output, Index to) {
    with_value(dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr T none = std::is_floating_point_v<T> ? std::numeric_limits<T>::quiet_NaN()
                                                       : std::numeric_limits<T>::min();
        static_cast<T*>(output)[to] = from < 0 ? none : static_cast<const T*>(input)[from];
    });
}

IndexProblem::IndexProblem(std::string_view op, const std::vector<Spec>& inputs,
                           const WeightSet& weights, const Attributes& attributes, int threads)
    : threads(threads) {
    const bool writes = op == Scatter::op;
    if (inputs.size() != (writes ? 3 : 2) || weights.size() != 0)
        throw std::invalid_argument(std::string(op) + ": takes an array and indices" +
                                    (writes ? " and a source" : "") + ", no weights");
    dtype = inputs[0].dtype;
    index_dtype = inputs[1].dtype;
    shape = inputs[0].shape;
    index_shape = inputs[1].shape;
    elements(shape);
    elements(index_shape);
    if (index_dtype != DType::i64 && index_dtype != DType::i32)
        throw DTypeError(std::string(op) + ": the indices " + to_string(inputs[1]) +
                         " must be int64 or int32");
    dim = dimension(op, "dim", attributes.integer("dim", 0), shape.size());
    spec.dtype = dtype;
}

IndexSelect::IndexSelect(const std::vector<Spec>& inputs, const WeightSet& weights,
                         const Attributes& attributes, int threads)
    : IndexProblem(op, inputs, weights, attributes, threads) {
    const auto at = shape.begin() + Index(dim);
    outer = elements({shape.begin(), at});
    extent = *at;
    inner = elements({at + 1, shape.end()});
    count = elements(index_shape);
    spec.shape.assign(shape.begin(), at);
    spec.shape.insert(spec.shape.end(), index_shape.begin(), index_shape.end());
    spec.shape.insert(spec.shape.end(), at + 1, shape.end());
}

void IndexSelect::reference(const void* const* inputs, const WeightSet&, void* output) const {
    for (Index o = 0; o < outer; ++o)
        for (Index i = 0; i < count; ++i) {
            const Index at = index_at(index_dtype, inputs[1], i, extent);
            for (Index k = 0; k < inner; ++k)
                put_element(dtype, inputs[0], at < 0 ? -1 : (o * extent + at) * inner + k, output,
                            (o * count + i) * inner + k);
        }
}

Gather::Gather(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads)
    : IndexProblem(op, inputs, weights, attributes, threads) {
    bool fits = index_shape.size() == shape.size();
    for (std::size_t d = 0; fits && d < shape.size(); ++d)
        fits = d == dim || index_shape[d] <= shape[d];
    if (!fits)
        throw std::invalid_argument("gather: the indices " + to_string(inputs[1]) +
                                    " must have the dimensions of " + to_string(inputs[0]) +
                                    ", and no larger extents but along dimension " +
                                    std::to_string(dim));
    spec.shape = index_shape;
}

void Gather::reference(const void* const* inputs, const WeightSet&, void* output) const {
    const Shape strides = dense_strides(shape);
    for (Index i = 0; i < elements(index_shape); ++i) {
        Index rest = i, from = 0;
        for (std::size_t d = index_shape.size(); d-- > 0; rest /= index_shape[d])
            if (d != dim) from += rest % index_shape[d] * strides[d];
        const Index at = index_at(index_dtype, inputs[1], i, shape[dim]);
        put_element(dtype, inputs[0], at < 0 ? -1 : from + at * strides[dim], output, i);
    }
}

Scatter::Scatter(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : IndexProblem(op, inputs, weights, attributes, threads) {
    source_shape = inputs[2].shape;
    elements(source_shape);
    if (inputs[2].dtype != dtype)
        throw DTypeError("scatter: the source " + to_string(inputs[2]) +
                         " must be of the dtype of " + to_string(inputs[0]));
    bool fits = index_shape.size() == shape.size() && source_shape.size() == shape.size();
    for (std::size_t d = 0; fits && d < shape.size(); ++d)
        fits = index_shape[d] <= source_shape[d] && (d == dim || index_shape[d] <= shape[d]);
    if (!fits)
        throw std::invalid_argument(
            "scatter: the indices " + to_string(inputs[1]) + " must have the dimensions of " +
            to_string(inputs[0]) + " and of the source " + to_string(inputs[2]) +
            ", and no larger extents, but than the array along dimension " + std::to_string(dim));
    const std::string name = attributes.text("reduce", "set");
    constexpr std::string_view names[] = {"set", "sum", "prod", "amax", "amin"};
    const auto* found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names))
        throw std::invalid_argument("scatter: reduce is " + name +
                                    ", not set, sum, prod, amax or amin");
    write = Write(found - std::begin(names));
    spec.shape = shape;
}

void Scatter::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_value(dtype, [&](auto zero) {
        using T = decltype(zero);
        using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::int64_t>;
        const T* x = static_cast<const T*>(inputs[0]);
        const T* source = static_cast<const T*>(inputs[2]);
        const Index size = elements(shape);
        std::vector<Sum> result(x, x + size);
        std::vector<bool> lost(static_cast<std::size_t>(size), false);
        const Shape strides = dense_strides(shape), source_strides = dense_strides(source_shape);
        for (Index i = 0; i < elements(index_shape); ++i) {
            Index rest = i, to = 0, from = 0;
            for (std::size_t d = index_shape.size(); d-- > 0; rest /= index_shape[d]) {
                if (d != dim) to += rest % index_shape[d] * strides[d];
                from += rest % index_shape[d] * source_strides[d];
            }
            const Index at = index_at(index_dtype, inputs[1], i, shape[dim]);
            for (Index k = 0; at < 0 && k < shape[dim]; ++k)
                lost[std::size_t(to + k * strides[dim])] = true;
            if (at < 0) continue;
            Sum& there = result[std::size_t(to + at * strides[dim])];
            there = written<Sum>(write, dtype == DType::boolean, there, Sum(source[from]));
        }
        for (Index i = 0; i < size; ++i)
            if (lost[std::size_t(i)])
                put_element(dtype, nullptr, -1, output, i);
            else
                static_cast<T*>(output)[i] = T(result[std::size_t(i)]);
    });
}

namespace {
const OperationOf<IndexSelect> index_select;
const OperationOf<Gather> gather;
const OperationOf<Scatter> scatter;
}  // namespace

}  // namespace ai3
