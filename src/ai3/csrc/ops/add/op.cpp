#include "ops/add/op.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("add: " + what); }

Shape broadcast_strides(const Shape& from, const Shape& to) {
    Shape strides(to.size(), 0);
    Index stride = 1;
    for (std::size_t i = 1; i <= from.size(); ++i) {
        const Index extent = from[from.size() - i];
        if (extent != 1) strides[to.size() - i] = stride;
        stride *= extent;
    }
    return strides;
}

}  // namespace

Add::Add(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
         int threads)
    : alpha(attributes.real("alpha", 1)), threads(threads) {
    if (inputs.size() != 2 || weights.size() != 0) refuse("takes two inputs and no weights");
    const Shape &a = inputs[0].shape, &b = inputs[1].shape;
    dtype = inputs[0].dtype;
    if (inputs[1].dtype != dtype)
        refuse("both inputs must have one dtype, not " + to_string(inputs[0]) + " and " +
               to_string(inputs[1]));
    shape.resize(std::max(a.size(), b.size()));
    for (std::size_t i = 1; i <= shape.size(); ++i) {
        const Index from_a = i <= a.size() ? a[a.size() - i] : 1;
        const Index from_b = i <= b.size() ? b[b.size() - i] : 1;
        if (from_a != from_b && from_a != 1 && from_b != 1)
            refuse("shapes " + to_string(a) + " and " + to_string(b) +
                   " cannot be broadcast: extents must be equal or 1");
        shape[shape.size() - i] = from_a == 1 ? from_b : from_a;
    }
    size = elements(shape);
    if (size == 0) return;
    a_strides = broadcast_strides(a, shape);
    b_strides = broadcast_strides(b, shape);
}

void Add::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* a = static_cast<const T*>(inputs[0]);
        const T* b = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < size; ++i) {
            Index at_a = 0, at_b = 0, rest = i;
            for (std::size_t dim = shape.size(); dim-- > 0; rest /= shape[dim]) {
                at_a += rest % shape[dim] * a_strides[dim];
                at_b += rest % shape[dim] * b_strides[dim];
            }
            out[i] = T(double(a[at_a]) + alpha * double(b[at_b]));
        }
    });
}

namespace {
const OperationOf<Add> operation;
}  // namespace

}  // namespace ai3
