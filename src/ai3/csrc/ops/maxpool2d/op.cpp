#include "ops/maxpool2d/op.hpp"

#include <limits>

#include "core/custom.hpp"
#include "custom/maxpool2d.hpp"

namespace ai3 {

MaxPool2d::MaxPool2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : Pooling2d(op, inputs, weights, attributes, attributes.integers("dilation", 2, {1, 1}),
                threads) {}

void MaxPool2d::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        compute_planes<T>(inputs[0], output, [&](auto at, Index oh, Index ow) {
            T largest = -std::numeric_limits<T>::infinity();
            for (Index kh = 0; kh < KH; ++kh)
                for (Index kw = 0; kw < KW; ++kw) {
                    const Index ih = oh * stride_h + kh * dilation_h - pad_h;
                    const Index iw = ow * stride_w + kw * dilation_w - pad_w;
                    if (ih < 0 || ih >= IH || iw < 0 || iw >= IW) continue;
                    const T x = at(ih, iw);
                    if (x > largest || x != x) largest = x;
                }
            return largest;
        });
    });
}

namespace {
const OperationOf<MaxPool2d> operation;
AI3_REGISTER_CUSTOM(maxpool2d, MaxPool2d, 1, 0);
}  // namespace

}  // namespace ai3
