#include "ops/batchnorm2d/op.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/batch_norm.hpp"
#include "custom/batchnorm2d.hpp"

namespace ai3 {

namespace {

const Spec& only(std::string_view op, const std::vector<Spec>& inputs) {
    if (inputs.size() != 1) throw std::invalid_argument(std::string(op) + ": takes one input");
    return inputs[0];
}

}  // namespace

BatchNorm2d::BatchNorm2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                         const Attributes& attributes, int threads)
    : BatchNorm2d(op, only(op, inputs).shape.size() == 3 ? 0 : 1, inputs, weights, attributes,
                  threads) {
    if (shape.size() != 3 && shape.size() != 4)
        throw std::invalid_argument("batchnorm2d: input must be (N, C, H, W) or (C, H, W), not " +
                                    to_string(shape));
}

BatchNorm::BatchNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : BatchNorm2d(op, 1, inputs, weights, attributes, threads) {
    if (layout != Layout::dense && shape.size() != 4)
        throw std::invalid_argument("batch_norm: what is " + std::string(name_of(layout)) +
                                    " must be (N, C, H, W), not " + to_string(shape));
}

BatchNorm2d::BatchNorm2d(std::string_view op, std::size_t channel, const std::vector<Spec>& inputs,
                         const WeightSet& weights, const Attributes& attributes, int threads)
    : eps(attributes.real("eps", 1e-5)), threads(threads) {
    const auto refuse = [&](const std::string& what) {
        throw std::invalid_argument(std::string(op) + ": " + what);
    };
    const Spec& input = only(op, inputs);
    if (weights.size() != 4 || !weights.get(2) || !weights.get(3))
        refuse("needs the weights weight, bias (each may be None), running_mean, running_var");
    dtype = input.dtype;
    shape = input.shape;
    layout = input.layout;
    if (shape.size() <= channel) refuse("input must be (N, C, *), not " + to_string(shape));
    N = channel ? shape[0] : 1;
    C = shape[channel];
    plane = elements({shape.begin() + Index(channel) + 1, shape.end()});
    elements(shape);
    constexpr std::array names{"weight", "bias", "running_mean", "running_var"};
    for (std::size_t i = 0; i < names.size(); ++i)
        if (const Constant* given = weights.get(i);
            given && (given->spec.shape != Shape{C} || !goes_with(given->spec.dtype, dtype)))
            refuse(std::string(names[i]) + " must be " + to_string(Spec{dtype, {C}}) +
                   " for input " + to_string(input) + ", not " + to_string(given->spec));
}

BatchNorm2d::Affine BatchNorm2d::affine(const WeightSet& weights, Index channel) const {
    const auto value = [&](std::size_t i, double otherwise) {
        const Constant* given = weights.get(i);
        return given ? given->real(channel) : otherwise;
    };
    const double scale = value(0, 1) / std::sqrt(value(3, 1) + eps);
    return {scale, value(1, 0) - value(2, 0) * scale};
}

void BatchNorm2d::reference(const void* const* inputs, const WeightSet& weights,
                            void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const ImageStrides strides(layout, dtype, C, 1, plane);
        std::fill_n(out, this->output().held(), T(0));
        for (Index n = 0; n < N; ++n)
            for (Index c = 0; c < C; ++c) {
                const auto [scale, shift] = affine(weights, c);
                for (Index i = 0; i < plane; ++i) {
                    const Index at = strides.at(n, c, 0, i);
                    out[at] = T(double(input[at]) * scale + shift);
                }
            }
    });
}

namespace {
const OperationOf<BatchNorm2d> images;
const OperationOf<BatchNorm> any;
AI3_REGISTER_CUSTOM(batchnorm2d, BatchNorm2d, 1, 4);
AI3_REGISTER_CUSTOM(batch_norm, BatchNorm, 1, 4);
}  // namespace

}  // namespace ai3
