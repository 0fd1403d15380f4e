#include "ops/layer_norm/op.hpp"

#include <algorithm>
#include <cmath>

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/layer_norm.hpp"

namespace ai3 {

LayerNorm::LayerNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : eps(attributes.real("eps", 1e-5)), threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("layer_norm: " + what);
    };
    if (inputs.size() != 1 || weights.size() > 2)
        refuse("takes one input, an optional weight and an optional bias");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
    const Shape normalized =
        attributes.integers("normalized_shape", attributes.count("normalized_shape"), {});
    if (normalized.empty() || normalized.size() > shape.size() ||
        !std::equal(normalized.rbegin(), normalized.rend(), shape.rbegin()))
        refuse("the input must end in normalized_shape " + to_string(normalized) + ", unlike " +
               to_string(inputs[0]));
    for (std::size_t i = 0; i < 2; ++i)
        if (const Constant* given = weights.get(i);
            given && !(goes_with(given->spec.dtype, dtype) && given->spec.shape == normalized))
            refuse(std::string(i ? "bias" : "weight") + " must be " +
                   to_string(Spec{dtype, normalized}) + ", not " + to_string(given->spec));
    n = elements(normalized);
    M = n ? elements(shape) / n : 0;
}

void LayerNorm::reference(const void* const* inputs, const WeightSet& weights, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* x = static_cast<const T*>(inputs[0]);
        const T *weight = weights.data<T>(0), *bias = weights.data<T>(1);
        T* out = static_cast<T*>(output);
        for (Index m = 0; m < M; ++m, x += n, out += n) {
            double mean = 0, variance = 0;
            for (Index i = 0; i < n; ++i) mean += double(x[i]) / double(n);
            for (Index i = 0; i < n; ++i)
                variance += (double(x[i]) - mean) * (double(x[i]) - mean) / double(n);
            for (Index i = 0; i < n; ++i)
                out[i] = T((double(x[i]) - mean) / std::sqrt(variance + eps) *
                               (weight ? double(weight[i]) : 1) +
                           (bias ? double(bias[i]) : 0));
        }
    });
}

namespace {
const OperationOf<LayerNorm> operation;
AI3_REGISTER_CUSTOM(layer_norm, LayerNorm, 1, 2);
}  // namespace

}  // namespace ai3
