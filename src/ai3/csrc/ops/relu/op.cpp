#include "ops/relu/op.hpp"

#include "core/custom.hpp"
#include "custom/relu.hpp"

namespace ai3 {

Relu::Relu(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes&,
           int threads)
    : threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0)
        throw std::invalid_argument("relu: takes one input and no weights");
    dtype = inputs[0].dtype;
    spec = inputs[0];
    shape = spec.shape;
    size = spec.held();
}

void Relu::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < size; ++i) out[i] = input[i] < 0 ? T(0) : input[i];
    });
}

namespace {
const OperationOf<Relu> operation;
AI3_REGISTER_CUSTOM(relu, Relu, 1, 0);
}  // namespace

}  // namespace ai3
