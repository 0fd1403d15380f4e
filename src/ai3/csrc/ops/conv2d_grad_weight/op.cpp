#include "ops/conv2d_grad_weight/op.hpp"

#include "core/custom.hpp"
#include "custom/conv2d_grad_weight.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("conv2d_grad_weight: " + what);
}

Conv2d forward_of(const std::vector<Spec>& inputs, const Attributes& attributes, int threads) {
    if (inputs.size() != 2) refuse("takes two inputs, the convolution's own and grad");
    const Spec &input = inputs[0], &grad = inputs[1];
    for (const Spec& spec : inputs)
        if (spec.shape.size() != 3 && spec.shape.size() != 4)
            refuse("input and grad must have 3 or 4 dimensions, not " + to_string(spec.shape));
    if (input.dtype != grad.dtype)
        refuse("input is " + std::string(name_of(input.dtype)) + " but grad is " +
               std::string(name_of(grad.dtype)));
    if (!attributes.has("kernel_size")) refuse("needs kernel_size (KH, KW)");
    const auto kernel = attributes.integers("kernel_size", 2, {});
    const Index groups = attributes.integer("groups", 1);
    const Index IC = input.shape[input.shape.size() - 3], OC = grad.shape[grad.shape.size() - 3];
    if (groups < 1 || IC % groups) refuse("groups must divide the input channels");
    const Spec weight{input.dtype, {OC, IC / groups, kernel[0], kernel[1]}};
    Conv2d forward(
        {input},
        WeightSet(std::vector<std::optional<Constant>>{Constant{weight, nullptr, nullptr}}),
        attributes, threads);
    if (forward.output().shape != grad.shape)
        refuse("of an input " + to_string(input.shape) + " the output is " +
               to_string(forward.output().shape) + ", but grad is " + to_string(grad.shape));
    return forward;
}

}  // namespace

Conv2dGradWeight::Conv2dGradWeight(const std::vector<Spec>& inputs, const WeightSet&,
                                   const Attributes& attributes, int threads)
    : forward(forward_of(inputs, attributes, threads)) {}

Spec Conv2dGradWeight::output() const {
    const Conv2d& f = forward;
    return {f.dtype, {f.OC, f.group_ic(), f.KH, f.KW}};
}

void Conv2dGradWeight::reference(const void* const* inputs, const WeightSet&, void* output) const {
    const Conv2d& f = forward;
    with_type(f.dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        const T* grad = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        for (Index oc = 0; oc < f.OC; ++oc)
            for (Index ic = 0; ic < f.group_ic(); ++ic)
                for (Index kh = 0; kh < f.KH; ++kh)
                    for (Index kw = 0; kw < f.KW; ++kw) {
                        const Index c = oc / f.group_oc() * f.group_ic() + ic;
                        double total = 0;
                        for (Index n = 0; n < f.N; ++n)
                            for (Index oh = 0; oh < f.OH; ++oh)
                                for (Index ow = 0; ow < f.OW; ++ow) {
                                    const Index ih = padded_source(
                                        oh * f.stride_h + kh * f.dilation_h - f.pad_top, f.IH,
                                        f.padding_mode);
                                    const Index iw = padded_source(
                                        ow * f.stride_w + kw * f.dilation_w - f.pad_left, f.IW,
                                        f.padding_mode);
                                    if (ih < 0 || iw < 0) continue;
                                    total +=
                                        double(input[((n * f.IC + c) * f.IH + ih) * f.IW + iw]) *
                                        double(grad[((n * f.OC + oc) * f.OH + oh) * f.OW + ow]);
                                }
                        *out++ = T(total);
                    }
    });
}

std::string_view Conv2dGradWeight::choose(const Conv2dGradWeight& problem) {
    return Registry<Conv2dGradWeight>::instance().cheapest(problem, "direct");
}

namespace {
const OperationOf<Conv2dGradWeight> operation;
AI3_REGISTER_CUSTOM(conv2d_grad_weight, Conv2dGradWeight, 2, 0);
}  // namespace

}  // namespace ai3
