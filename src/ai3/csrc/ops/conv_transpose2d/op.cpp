#include "ops/conv_transpose2d/op.hpp"

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/conv_transpose2d.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("conv_transpose2d: " + what);
}

Conv2dGradInput product_of(const std::vector<Spec>& inputs, const WeightSet& weights,
                           const Attributes& attributes, int threads) {
    if (inputs.size() != 1 || weights.size() < 1 || weights.size() > 2 || !weights.get(0))
        refuse("takes one input, a weight and an optional bias");
    const Shape &input = inputs[0].shape, &weight = weights.get(0)->spec.shape;
    if (weight.size() != 4)
        refuse("weight must be (IC, OC/groups, KH, KW), not " + to_string(weight));
    if (input.size() != 3 && input.size() != 4)
        refuse("input must be (N, IC, IH, IW) or (IC, IH, IW), not " + to_string(input));
    require_weights_of(ConvTranspose2d::op, inputs[0].dtype, weights);
    if (input[input.size() - 3] != weight[0])
        refuse("input " + to_string(input) + " must have the " + std::to_string(weight[0]) +
               " channels of weight " + to_string(weight));
    const auto stride = attributes.integers("stride", 2, {1, 1});
    const auto padding = attributes.integers("padding", 2, {0, 0});
    const auto dilation = attributes.integers("dilation", 2, {1, 1});
    const auto added = attributes.integers("output_padding", 2, {0, 0});
    std::vector<Index> size;
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const Index extent = input[input.size() - 2 + axis], kernel = weight[2 + axis];
        if (stride[axis] < 1 || dilation[axis] < 1 || padding[axis] < 0)
            refuse("stride and dilation must be at least 1, padding at least 0");
        if (added[axis] < 0 || added[axis] >= stride[axis])
            refuse("output_padding must be at least 0 and less than stride, not " +
                   std::to_string(added[axis]) + " for stride " + std::to_string(stride[axis]));
        if (extent < 1 || kernel < 1) refuse("extents of image and kernel must be at least 1");
        const Index last = checked_product(extent - 1, stride[axis]);
        const Index reach = checked_product(dilation[axis], kernel - 1);
        size.push_back(last - 2 * padding[axis] + reach + added[axis] + 1);
        if (size.back() < 1)
            refuse("padding " + std::to_string(padding[axis]) + " leaves nothing of the output");
    }
    Attributes derived({{"stride", stride},
                        {"padding", padding},
                        {"dilation", dilation},
                        {"groups", attributes.integer("groups", 1)},
                        {"input_size", size}});
    if (inputs[0].dtype == DType::bf16) {
        const DType own = output_dtype_of(attributes, inputs[0].dtype);
        derived.set(output_dtype, std::string(name_of(weights.get(1) ? DType::f32 : own)));
    }
    return {inputs, weights, derived, threads};
}

}  // namespace

ConvTranspose2d::ConvTranspose2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                                 const Attributes& attributes, int threads)
    : product(product_of(inputs, weights, attributes, threads)),
      output_dtype(output_dtype_of(attributes, inputs[0].dtype)),
      threads(threads) {
    const Conv2d& f = product.forward;
    OC = f.IC, planes = f.N * OC, plane = f.IH * f.IW;
    if (const Constant* bias = weights.get(1); bias && bias->spec.shape != Shape{OC})
        refuse("bias must be (" + std::to_string(OC) + ",), not " + to_string(bias->spec.shape));
}

void ConvTranspose2d::reference(const void* const* inputs, const WeightSet& weights,
                                void* output) const {
    product.reference(inputs, weights, output);
    with_type(product.forward.dtype, [&](auto zero) {
        using T = decltype(zero);
        T* out = static_cast<T*>(output);
        if (const T* bias = weights.data<T>(1))
            for (Index i = 0; i < planes * plane; ++i) out[i] += bias[i / plane % OC];
    });
}

namespace {
const OperationOf<ConvTranspose2d> operation;
AI3_REGISTER_CUSTOM(conv_transpose2d, ConvTranspose2d, 1, 2);
}  // namespace

}  // namespace ai3
