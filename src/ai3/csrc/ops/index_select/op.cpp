#include "ops/index_select/op.hpp"

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
    if (inputs.size() != 2 || weights.size() != 0)
        throw std::invalid_argument(std::string(op) + ": takes an array and indices, no weights");
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

namespace {
const OperationOf<IndexSelect> index_select;
const OperationOf<Gather> gather;
}  // namespace

}  // namespace ai3
