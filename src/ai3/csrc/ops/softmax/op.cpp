#include "ops/softmax/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/softmax.hpp"

namespace ai3 {

Softmax::Softmax(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0)
        throw std::invalid_argument("softmax: takes one input and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
    const Shape at_least_one = shape.empty() ? Shape{1} : shape;
    const Index dim =
        Index(dimension(op, "dim", attributes.integer("dim", -1), at_least_one.size()));
    outer = elements({at_least_one.begin(), at_least_one.begin() + dim});
    n = at_least_one[std::size_t(dim)];
    inner = elements({at_least_one.begin() + dim + 1, at_least_one.end()});
}

void Softmax::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        for (Index o = 0; o < outer; ++o)
            for (Index i = 0; i < inner; ++i) {
                const T* x = static_cast<const T*>(inputs[0]) + o * n * inner + i;
                T* out = static_cast<T*>(output) + o * n * inner + i;
                double most = double(x[0]), total = 0;
                for (Index k = 1; k < n; ++k) {
                    const double value = double(x[k * inner]);
                    most = value > most || std::isnan(value) ? value : most;
                }
                for (Index k = 0; k < n; ++k) total += std::exp(double(x[k * inner]) - most);
                for (Index k = 0; k < n; ++k)
                    out[k * inner] = T(std::exp(double(x[k * inner]) - most) / total);
            }
    });
}

namespace {
const OperationOf<Softmax> operation;
AI3_REGISTER_CUSTOM(softmax, Softmax, 1, 0);
}  // namespace

}  // namespace ai3
