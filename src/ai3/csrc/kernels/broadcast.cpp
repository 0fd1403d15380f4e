#include "kernels/broadcast.hpp"

namespace ai3 {

namespace {

Index channels(const Spec& spec) { return spec.shape[spec.shape.size() - 3]; }

// The shape that an image's memory has as a dense array, channels last, or in blocks.
Shape held_shape(const Spec& spec, Layout layout) {
    Shape shape = spec.shape;
    if (layout == Layout::dense || shape.empty() || elements(shape) == 1) return shape;
    const std::size_t c = shape.size() - 3;
    const Index lanes = layout == Layout::blocked ? channel_block(spec.dtype) : shape[c];
    shape[c] = layout == Layout::blocked ? (shape[c] + lanes - 1) / lanes : 1;
    shape.push_back(lanes);
    return shape;
}

// Whether a dense array has the memory that it would have in another layout.
bool same_memory(const Spec& spec, Layout layout) {
    const Shape& shape = spec.shape;
    if (elements(shape) == 1) return true;
    return shape.size() >= 3 && shape[shape.size() - 1] == 1 && shape[shape.size() - 2] == 1 &&
           (layout != Layout::blocked || channels(spec) % channel_block(spec.dtype) == 0);
}

}  // namespace

Broadcast::Broadcast(std::string_view op, const std::vector<Spec>& inputs) {
    std::string names;
    for (const Spec& input : inputs) {
        shape = broadcast_shape(op, shape, input.shape);
        if (layout == Layout::dense) layout = input.layout;
        names += (names.empty() ? "" : " and ") + to_string(input);
    }
    const Spec result{inputs[0].dtype, shape, layout};
    for (std::size_t i = inputs.size(); i-- > 0;) {
        const Spec& input = inputs[i];
        if (input.layout != layout) other = i;
        if ((input.layout != layout && !same_memory(input, layout)) ||
            (input.layout == Layout::blocked && channels(input) != channels(result)) ||
            (layout != Layout::dense && shape.size() > 4))
            throw std::invalid_argument(std::string(op) + ": the layouts of " + names +
                                        " do not go together");
    }
    if (elements(shape) == 0) return;
    held = held_shape(result, layout);
    for (const Spec& input : inputs)
        strides.push_back(broadcast_strides(held_shape(input, layout), held));
}

}  // namespace ai3
