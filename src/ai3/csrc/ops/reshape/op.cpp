#include "ops/reshape/op.hpp"

#include <algorithm>
#include <cstring>

namespace ai3 {

Reshape::Reshape(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("reshape: " + what);
    };
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    if (!attributes.has("shape")) refuse("needs a shape");
    dtype = inputs[0].dtype;
    const Index size = elements(inputs[0].shape);
    const Shape given = attributes.integers("shape", attributes.count("shape"), {});
    shape = given;
    if (std::count_if(given.begin(), given.end(), [](Index n) { return n < -1; }) ||
        std::count(given.begin(), given.end(), -1) > 1)
        refuse("shape " + to_string(given) + " may have one extent of -1 and no other negative");
    const auto open = std::find(shape.begin(), shape.end(), -1);
    if (open != shape.end()) {
        *open = 1;
        const Index rest = elements(shape);
        *open = rest ? size / rest : 0;
        if (rest == 0) refuse("shape " + to_string(given) + " does not tell the extent of -1");
    }
    if (elements(shape) != size)
        refuse("the input " + to_string(inputs[0]) + " has not the elements of shape " +
               to_string(given));
}

void Reshape::reference(const void* const* inputs, const WeightSet&, void* output) const {
    std::memcpy(output, inputs[0], this->output().bytes());
}

namespace {
const OperationOf<Reshape> operation;
}  // namespace

}  // namespace ai3
