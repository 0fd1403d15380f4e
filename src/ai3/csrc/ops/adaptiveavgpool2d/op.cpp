#include "ops/adaptiveavgpool2d/op.hpp"

#include "core/custom.hpp"
#include "custom/adaptiveavgpool2d.hpp"

namespace ai3 {

AdaptiveAvgPool2d::AdaptiveAvgPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                                     const Attributes& attributes, int threads)
    : Pooling2d(op, inputs, weights, threads) {
    if (!attributes.has("output_size")) refuse(op, "output_size must be given");
    const auto size = attributes.integers("output_size", 2, {});
    for (Index extent : size)
        if (extent < -1 || extent > Index{1} << 30)
            refuse(op, "output_size must be from 0 to 2^30, or -1 to keep the input's, not " +
                           std::to_string(extent));
    OH = size[0] < 0 ? IH : size[0];
    OW = size[1] < 0 ? IW : size[1];
    elements(output().shape);
}

void AdaptiveAvgPool2d::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        compute_planes<T>(inputs[0], output, [&](auto at, Index oh, Index ow) {
            const Span h = bin(oh, IH, OH), w = bin(ow, IW, OW);
            double total = 0;
            for (Index kh = 0; kh < h.count; ++kh)
                for (Index kw = 0; kw < w.count; ++kw)
                    total += double(at(h.begin + kh, w.begin + kw));
            return T(total / double(h.count * w.count));
        });
    });
}

namespace {
const OperationOf<AdaptiveAvgPool2d> operation;
AI3_REGISTER_CUSTOM(adaptiveavgpool2d, AdaptiveAvgPool2d, 1, 0);
}  // namespace

}  // namespace ai3
