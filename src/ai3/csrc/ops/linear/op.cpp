#include "ops/linear/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/linear.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("linear: " + what);
}

}  // namespace

Linear::Linear(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads)
    : has_residual(inputs.size() == 2),
      activation(activation_from(attributes.text("activation", "none"))),
      activation_parameter(attributes.real("activation_parameter", default_parameter(activation))),
      threads(threads) {
    if (inputs.empty() || inputs.size() > 2 || weights.size() < 1 || weights.size() > 2 ||
        !weights.get(0))
        refuse("takes an input, an optional residual, a weight and an optional bias");
    const Spec& input = inputs[0];
    const Spec& weight = weights.get(0)->spec;
    const Constant* bias = weights.get(1);

    if (weight.shape.size() != 2) refuse("weight must be (OC, IC), not " + to_string(weight.shape));
    OC = weight.shape[0], IC = weight.shape[1];
    if (input.shape.empty() || input.shape.back() != IC)
        refuse("input must be (*, " + std::to_string(IC) + ") for weight " +
               to_string(weight.shape) + ", not " + to_string(input.shape));
    dtype = input.dtype;
    output_dtype = output_dtype_of(attributes, dtype);
    require_weights_of(op, dtype, weights);
    has_bias = bias != nullptr;
    if (has_bias && bias->spec.shape != Shape{OC})
        refuse("bias must be (" + std::to_string(OC) + ",), not " + to_string(bias->spec.shape));

    shape = input.shape;
    shape.back() = OC;
    elements(shape);
    if (has_residual && inputs[1] != output())
        refuse("the residual must be " + to_string(output()) + ", not " + to_string(inputs[1]));
    M = elements({input.shape.begin(), input.shape.end() - 1});
}

void Linear::reference(const void* const* inputs, const WeightSet& weights, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        const T* weight = weights.data<T>(0);
        const T* bias = weights.data<T>(1);
        const T* residual = has_residual ? static_cast<const T*>(inputs[1]) : nullptr;
        T* out = static_cast<T*>(output);
        for (Index m = 0; m < M; ++m)
            for (Index oc = 0; oc < OC; ++oc) {
                double total = bias ? double(bias[oc]) : 0.0;
                for (Index ic = 0; ic < IC; ++ic)
                    total += double(input[m * IC + ic]) * double(weight[oc * IC + ic]);
                if (residual) total += double(*residual++);
                *out++ = T(activate(activation, activation_parameter, total));
            }
    });
}

std::string_view Linear::choose(const Linear& problem) {
    // An estimate of "strassen" is finite where it gains.
    const auto& known = Registry<Linear>::instance();
    return std::isfinite(known.cost(known.at("strassen"), problem)) ? "strassen" : "direct";
}

namespace {
const OperationOf<Linear> operation;
AI3_REGISTER_CUSTOM(linear, Linear, 1, 2);
}  // namespace

}  // namespace ai3
