#include "ops/flatten/op.hpp"

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/flatten.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("flatten: " + what);
}

}  // namespace

Flatten::Flatten(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    size = elements(shape);
    if (shape.empty()) shape = {1};
    const std::size_t start =
        dimension(op, "start_dim", attributes.integer("start_dim", 0), shape.size());
    const std::size_t end =
        dimension(op, "end_dim", attributes.integer("end_dim", -1), shape.size());
    if (start > end)
        refuse("start_dim " + std::to_string(start) + " comes after end_dim " +
               std::to_string(end));
    for (std::size_t dim = start + 1; dim <= end; ++dim)
        shape[start] = checked_product(shape[start], shape[dim]);
    shape.erase(shape.begin() + Index(start) + 1, shape.begin() + Index(end) + 1);
}

void Flatten::reference(const void* const* inputs, const WeightSet&, void* output) const {
    const auto* input = static_cast<const std::byte*>(inputs[0]);
    auto* out = static_cast<std::byte*>(output);
    for (std::size_t i = 0; i < std::size_t(size) * size_of(dtype); ++i) out[i] = input[i];
}

namespace {
const OperationOf<Flatten> operation;
AI3_REGISTER_CUSTOM(flatten, Flatten, 1, 0);
}  // namespace

}  // namespace ai3
