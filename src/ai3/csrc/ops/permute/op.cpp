#include "ops/permute/op.hpp"

#include "core/shape.hpp"

namespace ai3 {

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
    const Shape dense = dense_strides(from);
    for (std::size_t d : dims) {
        shape.push_back(from[d]);
        strides.push_back(dense[d]);
    }
}

void Permute::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
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
