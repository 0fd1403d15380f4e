#include "ops/matmul/op.hpp"

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/matmul.hpp"

namespace ai3 {

Matmul::Matmul(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes&,
               int threads)
    : threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("matmul: " + what);
    };
    if (inputs.size() != 2 || weights.size() != 0) refuse("takes two inputs and no weights");
    dtype = inputs[0].dtype;
    if (inputs[1].dtype != dtype)
        refuse("both inputs must have one dtype, not " + to_string(inputs[0]) + " and " +
               to_string(inputs[1]));
    Shape a = inputs[0].shape, b = inputs[1].shape;
    if (a.empty() || b.empty()) refuse("an input must have a dimension");
    const bool row = a.size() == 1, column = b.size() == 1;
    if (row) a.insert(a.begin(), 1);
    if (column) b.push_back(1);
    M = a[a.size() - 2], K = a.back(), N = b.back();
    if (b[b.size() - 2] != K)
        refuse("the last dimension of " + to_string(inputs[0]) + " must be the " +
               (column ? "only" : "last but one") + " of " + to_string(inputs[1]));
    elements(a), elements(b);
    const Shape a_batch(a.begin(), a.end() - 2), b_batch(b.begin(), b.end() - 2);
    shape = batch_shape = broadcast_shape(op, a_batch, b_batch);
    if (!row) shape.push_back(M);
    if (!column) shape.push_back(N);
    elements(shape);
    batch = elements(batch_shape);
    a_strides = broadcast_strides(a_batch, batch_shape);
    b_strides = broadcast_strides(b_batch, batch_shape);
}

Matmul::Offsets Matmul::offsets(Index i) const {
    Offsets at{0, 0};
    for (std::size_t d = batch_shape.size(); d-- > 0; i /= batch_shape[d]) {
        at.a += i % batch_shape[d] * a_strides[d];
        at.b += i % batch_shape[d] * b_strides[d];
    }
    return {at.a * M * K, at.b * K * N};
}

void Matmul::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < batch; ++i) {
            const T* a = static_cast<const T*>(inputs[0]) + offsets(i).a;
            const T* b = static_cast<const T*>(inputs[1]) + offsets(i).b;
            for (Index m = 0; m < M; ++m)
                for (Index n = 0; n < N; ++n) {
                    double total = 0;
                    for (Index k = 0; k < K; ++k)
                        total += double(a[m * K + k]) * double(b[k * N + n]);
                    *out++ = T(total);
                }
        }
    });
}

namespace {
const OperationOf<Matmul> operation;
AI3_REGISTER_CUSTOM(matmul, Matmul, 2, 0);
}  // namespace

}  // namespace ai3
