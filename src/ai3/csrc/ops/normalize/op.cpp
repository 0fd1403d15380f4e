#include "ops/normalize/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/normalize.hpp"

namespace ai3 {

Normalize::Normalize(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : eps(attributes.real("eps", 1e-12)), threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0)
        throw std::invalid_argument("normalize: takes one input and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    elements(shape);
    const Index dim = Index(dimension(op, "dim", attributes.integer("dim", 1), shape.size()));
    outer = elements({shape.begin(), shape.begin() + dim});
    n = shape[std::size_t(dim)];
    inner = elements({shape.begin() + dim + 1, shape.end()});
}

void Normalize::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        for (Index o = 0; o < outer; ++o)
            for (Index i = 0; i < inner; ++i) {
                const T* x = static_cast<const T*>(inputs[0]) + o * n * inner + i;
                T* out = static_cast<T*>(output) + o * n * inner + i;
                double squares = 0;
                for (Index k = 0; k < n; ++k)
                    squares += double(x[k * inner]) * double(x[k * inner]);
                const double norm = std::sqrt(squares), least = norm < eps ? eps : norm;
                for (Index k = 0; k < n; ++k) out[k * inner] = T(double(x[k * inner]) / least);
            }
    });
}

namespace {
const OperationOf<Normalize> operation;
AI3_REGISTER_CUSTOM(normalize, Normalize, 1, 0);
}  // namespace

}  // namespace ai3
