#include "ops/expand_depthwise/op.hpp"

#include "core/mixed.hpp"
#include "kernels/convert.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("expand_depthwise: " + what);
}

WeightSet slice(const WeightSet& weights, std::size_t first, Index begin, Index end,
                bool in_float = false) {
    std::vector<std::optional<Constant>> slices;
    for (std::size_t i = first; i < first + 2; ++i) {
        const Constant* whole = weights.get(i);
        if (!whole) {
            slices.emplace_back();
            continue;
        }
        Constant part = *whole;
        const Index row = elements(part.spec.shape) / std::max<Index>(part.spec.shape[0], 1);
        part.spec.shape[0] = end - begin;
        part.data = static_cast<const std::byte*>(part.data) +
                    begin * row * Index(size_of(part.spec.dtype));
        if (in_float && part.spec.dtype == DType::bf16) {
            part.spec.dtype = DType::f32;
            auto buffer = std::make_shared<Buffer>(part.spec.bytes());
            if (whole->data) convert(part.as<bfloat16>(), buffer->as<float>(), part.spec.held(), 1);
            part.data = buffer->data();
            part.owner = std::move(buffer);
        }
        slices.push_back(part);
    }
    return WeightSet(std::move(slices));
}

Index expanded_channels(const WeightSet& weights) {
    const Constant *expand = weights.get(0), *depthwise = weights.get(2);
    if (weights.size() != 4 || !expand || !depthwise)
        refuse("takes two weights, each with a bias or none");
    const Shape &e = expand->spec.shape, &d = depthwise->spec.shape;
    if (e.size() != 4 || e[2] != 1 || e[3] != 1) refuse("the first kernel must be 1x1");
    if (d.size() != 4 || d[0] != e[0] || d[1] != 1)
        refuse("the second weight must be (" + std::to_string(e[0]) + ", 1, KH, KW), not " +
               to_string(d));
    for (std::size_t i : {1, 3})
        if (const Constant* bias = weights.get(i); bias && bias->spec.shape != Shape{e[0]})
            refuse("bias must be (" + std::to_string(e[0]) + ",), not " +
                   to_string(bias->spec.shape));
    return e[0];
}

// Those of `names` that are given as `prefix` and the name.
Attributes some(const Attributes& attributes, const std::string& prefix,
                std::initializer_list<const char*> names) {
    Attributes found;
    for (const char* name : names)
        if (const auto at = attributes.values().find(prefix + name);
            at != attributes.values().end())
            found.set(name, at->second);
    return found;
}

Conv2d expand_of(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads) {
    if (inputs.size() != 1) refuse("takes one input");
    const Index channels = expanded_channels(weights);
    Attributes own = some(attributes, "expand_", {"activation", "activation_parameter"});
    if (inputs[0].dtype == DType::bf16) own.set(output_dtype, "float32");
    return {inputs, ExpandDepthwise::expand_weights(weights, 0, channels), own, threads};
}

Conv2d depthwise_of(const Conv2d& expand, const WeightSet& weights, const Attributes& attributes,
                    int threads) {
    Attributes own = some(attributes, "",
                          {"stride", "padding", "dilation", "activation", "activation_parameter"});
    own.set("groups", expand.OC);
    if (expand.dtype == DType::bf16)
        own.set(output_dtype, std::string(name_of(output_dtype_of(attributes, expand.dtype))));
    return {
        {expand.output()}, ExpandDepthwise::depthwise_weights(weights, 0, expand.OC), own, threads};
}

}  // namespace

ExpandDepthwise::ExpandDepthwise(const std::vector<Spec>& inputs, const WeightSet& weights,
                                 const Attributes& attributes, int threads)
    : expand(expand_of(inputs, weights, attributes, threads)),
      depthwise(depthwise_of(expand, weights, attributes, threads)),
      threads(std::max(expand.threads, depthwise.threads)) {}

WeightSet ExpandDepthwise::expand_weights(const WeightSet& weights, Index begin, Index end) {
    return slice(weights, 0, begin, end);
}
WeightSet ExpandDepthwise::depthwise_weights(const WeightSet& weights, Index begin, Index end) {
    return slice(weights, 2, begin, end, true);
}

void ExpandDepthwise::reference(const void* const* inputs, const WeightSet& weights,
                                void* output) const {
    Buffer expanded(expand.output().bytes());
    expand.reference(inputs, expand_weights(weights, 0, expand.OC), expanded.data());
    const void* input = expanded.data();
    depthwise.reference(&input, depthwise_weights(weights, 0, expand.OC), output);
}

namespace {
const OperationOf<ExpandDepthwise> operation;
}  // namespace

}  // namespace ai3
