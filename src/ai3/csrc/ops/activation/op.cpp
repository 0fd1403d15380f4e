#include "ops/activation/op.hpp"

#include "core/custom.hpp"
#include "custom/elu.hpp"
#include "custom/gelu.hpp"
#include "custom/hardsigmoid.hpp"
#include "custom/hardswish.hpp"
#include "custom/leaky_relu.hpp"
#include "custom/relu6.hpp"
#include "custom/sigmoid.hpp"
#include "custom/silu.hpp"
#include "custom/tanh.hpp"

namespace ai3 {

namespace {

Activation approximated(const std::string& approximate) {
    if (approximate == "none") return Activation::gelu;
    if (approximate == "tanh") return Activation::gelu_tanh;
    throw std::invalid_argument("gelu: approximate must be 'none' or 'tanh', not '" + approximate +
                                "'");
}

double parameter_of(Activation function, const Attributes& attributes) {
    const double usual = default_parameter(function);
    return function == Activation::leaky_relu ? attributes.real("negative_slope", usual)
           : function == Activation::elu      ? attributes.real("alpha", usual)
                                              : usual;
}

}  // namespace

ActivationProblem::ActivationProblem(Activation f, const std::vector<Spec>& inputs,
                                     const WeightSet& weights, const Attributes& attributes,
                                     int threads)
    : function(f), parameter(parameter_of(f, attributes)), threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0)
        throw std::invalid_argument(std::string(name_of(f)) + ": takes one input and no weights");
    if (f == Activation::gelu) function = approximated(attributes.text("approximate", "none"));
    spec = inputs[0];
    dtype = spec.dtype;
    size = spec.held();
}

void ActivationProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < size; ++i)
            out[i] = T(activate(function, parameter, double(input[i])));
    });
}

namespace {
const ForEachActivation<OperationOf> operations;
AI3_REGISTER_CUSTOM(relu6, ActivationOf<Activation::relu6>, 1, 0);
AI3_REGISTER_CUSTOM(leaky_relu, ActivationOf<Activation::leaky_relu>, 1, 0);
AI3_REGISTER_CUSTOM(silu, ActivationOf<Activation::silu>, 1, 0);
AI3_REGISTER_CUSTOM(hardswish, ActivationOf<Activation::hardswish>, 1, 0);
AI3_REGISTER_CUSTOM(hardsigmoid, ActivationOf<Activation::hardsigmoid>, 1, 0);
AI3_REGISTER_CUSTOM(sigmoid, ActivationOf<Activation::sigmoid>, 1, 0);
AI3_REGISTER_CUSTOM(tanh, ActivationOf<Activation::tanh>, 1, 0);
AI3_REGISTER_CUSTOM(gelu, ActivationOf<Activation::gelu>, 1, 0);
AI3_REGISTER_CUSTOM(elu, ActivationOf<Activation::elu>, 1, 0);
}  // namespace

}  // namespace ai3
