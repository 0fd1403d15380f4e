#include "ops/group_norm/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/group_norm.hpp"

namespace ai3 {

GroupNorm::GroupNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : groups(attributes.integer("num_groups", 1)),
      eps(attributes.real("eps", 1e-5)),
      threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("group_norm: " + what);
    };
    if (inputs.size() != 1 || weights.size() > 2)
        refuse("takes one input, an optional weight and an optional bias");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
    if (shape.size() < 2) refuse("input must be (N, C, *), not " + to_string(shape));
    N = shape[0], C = shape[1];
    plane = elements({shape.begin() + 2, shape.end()});
    if (groups < 1 || C % groups != 0)
        refuse("num_groups " + std::to_string(groups) + " must divide the " + std::to_string(C) +
               " channels");
    for (std::size_t i = 0; i < 2; ++i)
        if (const Constant* given = weights.get(i);
            given && !(goes_with(given->spec.dtype, dtype) && given->spec.shape == Shape{C}))
            refuse(std::string(i ? "bias" : "weight") + " must be " + to_string(Spec{dtype, {C}}) +
                   ", not " + to_string(given->spec));
}

void GroupNorm::reference(const void* const* inputs, const WeightSet& weights, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* x = static_cast<const T*>(inputs[0]);
        const T *weight = weights.data<T>(0), *bias = weights.data<T>(1);
        T* out = static_cast<T*>(output);
        const Index n = C / groups * plane;
        for (Index g = 0; g < N * groups; ++g, x += n, out += n) {
            double mean = 0, variance = 0;
            for (Index i = 0; i < n; ++i) mean += double(x[i]) / double(n);
            for (Index i = 0; i < n; ++i)
                variance += (double(x[i]) - mean) * (double(x[i]) - mean) / double(n);
            for (Index i = 0; i < n; ++i) {
                const Index c = g % groups * (C / groups) + i / plane;
                out[i] = T((double(x[i]) - mean) / std::sqrt(variance + eps) *
                               (weight ? double(weight[c]) : 1) +
                           (bias ? double(bias[c]) : 0));
            }
        }
    });
}

namespace {
const OperationOf<GroupNorm> operation;
AI3_REGISTER_CUSTOM(group_norm, GroupNorm, 1, 2);
}  // namespace

}  // namespace ai3
