#include "ops/conv2d_grad_bias/op.hpp"

#include "core/custom.hpp"
#include "custom/conv2d_grad_bias.hpp"

namespace ai3 {

Conv2dGradBias::Conv2dGradBias(const std::vector<Spec>& inputs, const WeightSet&, const Attributes&,
                               int threads)
    : threads(threads) {
    if (inputs.size() != 1 || (inputs[0].shape.size() != 3 && inputs[0].shape.size() != 4))
        throw std::invalid_argument(
            "conv2d_grad_bias: takes one input, (N, OC, OH, OW) or (OC, OH, OW)");
    const Shape& shape = inputs[0].shape;
    const bool batched = shape.size() == 4;
    dtype = inputs[0].dtype;
    N = batched ? shape[0] : 1;
    OC = shape[batched ? 1 : 0];
    P = checked_product(shape[shape.size() - 2], shape.back());
}

void Conv2dGradBias::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* grad = static_cast<const T*>(inputs[0]);
        for (Index oc = 0; oc < OC; ++oc) {
            double total = 0;
            for (Index n = 0; n < N; ++n)
                for (Index i = 0; i < P; ++i) total += double(grad[(n * OC + oc) * P + i]);
            static_cast<T*>(output)[oc] = T(total);
        }
    });
}

namespace {
const OperationOf<Conv2dGradBias> operation;
AI3_REGISTER_CUSTOM(conv2d_grad_bias, Conv2dGradBias, 1, 0);
}  // namespace

}  // namespace ai3
