#include "ops/local_response_norm/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "custom/local_response_norm.hpp"

namespace ai3 {

LocalResponseNorm::LocalResponseNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
                                     const Attributes& attributes, int threads)
    : size(attributes.integer("size", 0)),
      alpha(attributes.real("alpha", 1e-4)),
      beta(attributes.real("beta", 0.75)),
      k(attributes.real("k", 1)),
      threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("local_response_norm: " + what);
    };
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
    if (shape.size() < 3) refuse("input must be (N, C, *), not " + to_string(shape));
    if (size < 1) refuse("size must be at least 1, not " + std::to_string(size));
    N = shape[0], C = shape[1];
    plane = elements({shape.begin() + 2, shape.end()});
}

void LocalResponseNorm::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* x = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index n = 0; n < N; ++n, x += C * plane)
            for (Index c = 0; c < C; ++c)
                for (Index i = 0; i < plane; ++i) {
                    double squares = 0;
                    for (Index near = first(c); near <= last(c); ++near)
                        squares += double(x[near * plane + i]) * double(x[near * plane + i]);
                    const double activity = k + alpha / double(size) * squares;
                    *out++ = T(double(x[c * plane + i]) / std::pow(activity, beta));
                }
    });
}

namespace {
const OperationOf<LocalResponseNorm> operation;
AI3_REGISTER_CUSTOM(local_response_norm, LocalResponseNorm, 1, 0);
}  // namespace

}  // namespace ai3
