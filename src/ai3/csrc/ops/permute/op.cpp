#include "ops/permute/op.hpp"

#include <numeric>

#include "core/shape.hpp"

namespace ai3 {

namespace {

// The dimensions from the outermost in memory to the innermost.
Shape memory_order(const Spec& spec) {
    Shape order(spec.shape.size());
    std::iota(order.begin(), order.end(), 0);
    if (spec.layout == Layout::channels_last)
        std::rotate(order.end() - 3, order.end() - 2, order.end());
    return order;
}

}  // namespace

Permute::Permute(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0)
        throw std::invalid_argument("permute: takes one input and no weights");
    dtype = inputs[0].dtype;
    const Shape& from = inputs[0].shape;
    elements(from);
    const std::vector<std::size_t> dims =
        from.empty() ? std::vector<std::size_t>{} : dimensions(op, attributes, "dims", from.size());
    if (dims.size() != from.size())
        throw std::invalid_argument("permute: dims must name each of the " +
                                    std::to_string(from.size()) + " dimensions of the input " +
                                    to_string(inputs[0]) + " once");
    spec = {dtype, {}, Layout::dense};
    for (std::size_t d : dims) spec.shape.push_back(from[d]);
    spec.layout = layout_from(attributes.text("output_layout", "dense"), spec.shape);
    for (Layout layout : {inputs[0].layout, spec.layout})
        if (layout == Layout::blocked)
            throw std::invalid_argument("permute: input and output must be dense or channels_last");

    const Shape in_order = memory_order(inputs[0]);
    Shape held;
    for (Index d : in_order) held.push_back(from[std::size_t(d)]);
    const Shape held_strides = dense_strides(held);
    Shape stride_of(from.size());
    for (std::size_t i = 0; i < from.size(); ++i)
        stride_of[std::size_t(in_order[i])] = held_strides[i];
    for (Index d : memory_order(spec)) {
        shape.push_back(spec.shape[std::size_t(d)]);
        strides.push_back(stride_of[dims[std::size_t(d)]]);
    }
}

void Permute::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_storage(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < elements(shape); ++i) {
            Index rest = i, at = 0;
            for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d])
                at += rest % shape[d] * strides[d];
            out[i] = input[at];
        }
    });
}

namespace {
const OperationOf<Permute> operation;
}  // namespace

}  // namespace ai3
