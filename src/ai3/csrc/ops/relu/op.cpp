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

std::string_view Relu::choose(const Relu& problem) {
    return prefers_custom(problem, custom::relu_is_default) ? "custom" : "direct";
}

namespace {
const OperationOf<Relu> operation;
const RegisterCustom<Relu, custom::relu_is_default> registered_custom{
    []<typename T>(
        T, const Relu& problem, const void* const* inputs, const WeightSet&,
        void* output) -> decltype(custom::relu(problem, (const T*)nullptr, (T*)nullptr)) {
        custom::relu(problem, static_cast<const T*>(inputs[0]), static_cast<T*>(output));
    }};
}  // namespace

}  // namespace ai3
