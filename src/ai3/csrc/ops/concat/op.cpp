#include "ops/concat/op.hpp"

#include "core/shape.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("concat: " + what);
}

void check_layouts(const std::vector<Spec>& inputs, std::size_t along) {
    const std::size_t channel = inputs[0].shape.size() - 3;
    if (along > channel)
        refuse("the input " + to_string(inputs[0]) + " must be dense to go on along dimension " +
               std::to_string(along));
    if (along < channel || inputs[0].layout != Layout::blocked) return;
    for (std::size_t i = 0; i + 1 < inputs.size(); ++i)
        if (inputs[i].shape[channel] % channel_block(inputs[i].dtype) != 0)
            refuse("the input " + to_string(inputs[i]) +
                   " must be dense, as its channels are no whole blocks");
}

}  // namespace

Concat::Concat(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.empty() || inputs.size() > max_inputs || weights.size() != 0)
        refuse("takes 1 to " + std::to_string(max_inputs) + " inputs and no weights");
    dtype = inputs[0].dtype;
    shape = inputs[0].shape;
    layout = inputs[0].layout;
    const std::size_t along = dimension(op, "dim", attributes.integer("dim", 0), shape.size());

    shape[along] = 0;
    for (const Spec& input : inputs) {
        Shape rest = input.shape;
        if (rest.size() == shape.size()) rest[along] = shape[along];
        if (input.dtype != dtype || rest != shape || input.layout != layout)
            refuse("inputs must differ in dimension " + std::to_string(along) + " only, unlike " +
                   to_string(inputs[0]) + " and " + to_string(input));
        if (__builtin_add_overflow(shape[along], input.shape[along], &shape[along]))
            refuse("the number of elements overflows 64 bits");
    }
    if (layout != Layout::dense) check_layouts(inputs, along);
    begin.assign(inputs.size() + 1, 0);
    rows = 0;
    if (elements(shape) == 0) return;
    // An image's memory is one run for each of its outer dimensions, up to that of the channels;
    // where they are last, for each pixel.
    const std::size_t channel = shape.size() - (layout == Layout::dense ? 0 : 3);
    rows = elements({shape.begin(), shape.begin() + Index(along)});
    if (layout == Layout::channels_last && along == channel)
        rows *= elements({shape.begin() + Index(along) + 1, shape.end()});
    for (std::size_t i = 0; i < inputs.size(); ++i)
        begin[i + 1] = begin[i] + inputs[i].held() / rows;
}

void Concat::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_storage(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* out = static_cast<T*>(output);
        for (Index row = 0; row < rows; ++row)
            for (std::size_t i = 0; i + 1 < begin.size(); ++i) {
                const Index extent = begin[i + 1] - begin[i];
                for (Index k = 0; k < extent; ++k)
                    *out++ = static_cast<const T*>(inputs[i])[row * extent + k];
            }
    });
}

namespace {

// The inputs with a dimension of extent 1 where they will be stacked.
std::vector<Spec> unsqueezed(std::vector<Spec> inputs, const Attributes& attributes) {
    for (const Spec& input : inputs)
        if (input.layout != Layout::dense)
            throw std::invalid_argument("stack: the input " + to_string(input) + " must be dense");
    for (Spec& input : inputs) {
        if (input.shape != inputs[0].shape)
            throw std::invalid_argument("stack: inputs must have one shape, unlike " +
                                        to_string(inputs[0]) + " and " + to_string(input));
    }
    for (Spec& input : inputs) {
        const std::size_t dim =
            dimension(Stack::op, "dim", attributes.integer("dim", 0), input.shape.size() + 1);
        input.shape.insert(input.shape.begin() + Index(dim), 1);
    }
    return inputs;
}

}  // namespace

Stack::Stack(const std::vector<Spec>& inputs, const WeightSet& weights,
             const Attributes& attributes, int threads)
    : Concat(unsqueezed(inputs, attributes), weights, attributes, threads) {}

namespace {
const OperationOf<Concat> concat;
const OperationOf<Stack> stack;
}  // namespace

}  // namespace ai3
