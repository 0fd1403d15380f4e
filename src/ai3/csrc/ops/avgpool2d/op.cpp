#include "ops/avgpool2d/op.hpp"

#include "core/custom.hpp"
#include "custom/avgpool2d.hpp"

namespace ai3 {

AvgPool2d::AvgPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : Pooling2d(op, inputs, weights, attributes, {1, 1}, threads),
      count_include_pad(attributes.flag("count_include_pad", true)) {
    if (!attributes.has("divisor_override")) return;
    divisor_override = attributes.integer("divisor_override", 0);
    if (*divisor_override == 0) refuse(op, "divisor_override must not be 0");
}

void AvgPool2d::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        compute_planes<T>(inputs[0], output, [&](auto at, Index oh, Index ow) {
            double total = 0;
            for (Index kh = 0; kh < KH; ++kh)
                for (Index kw = 0; kw < KW; ++kw) {
                    const Index ih = oh * stride_h + kh - pad_h, iw = ow * stride_w + kw - pad_w;
                    if (ih >= 0 && ih < IH && iw >= 0 && iw < IW) total += double(at(ih, iw));
                }
            return T(total / double(divisor_h(oh) * divisor_w(ow)));
        });
    });
}

namespace {
const OperationOf<AvgPool2d> operation;
AI3_REGISTER_CUSTOM(avgpool2d, AvgPool2d, 1, 0);
}  // namespace

}  // namespace ai3
