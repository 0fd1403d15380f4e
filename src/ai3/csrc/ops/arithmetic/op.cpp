#include "ops/arithmetic/op.hpp"

#include "core/shape.hpp"

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

ArithmeticProblem::ArithmeticProblem(Arithmetic function, const std::vector<Spec>& inputs,
                                     const WeightSet& weights, const Attributes& attributes,
                                     int threads)
    : function(function), threads(threads) {
    const auto refuse = [&](const std::string& what) {
        throw std::invalid_argument(std::string(name_of(function)) + ": " + what);
    };
    if (inputs.size() != 2 || weights.size() != 0) refuse("takes two inputs and no weights");
    dtype = inputs[0].dtype;
    if (inputs[1].dtype != dtype)
        refuse("both inputs must have one dtype, not " + to_string(inputs[0]) + " and " +
               to_string(inputs[1]));
    alpha = function == Arithmetic::add   ? attributes.real("alpha", 1)
            : function == Arithmetic::sub ? -attributes.real("alpha", 1)
                                          : 1;
    Layout layout = inputs[0].layout;
    if (layout == Layout::dense) layout = inputs[1].layout;
    spec = {dtype, broadcast_shape(name_of(function), inputs[0].shape, inputs[1].shape), layout};
    for (const Spec& input : inputs)
        if ((input.layout != layout && !same_memory(input, layout)) ||
            (input.layout == Layout::blocked && channels(input) != channels(spec)) ||
            (layout != Layout::dense && spec.shape.size() > 4))
            refuse("the layouts of " + to_string(inputs[0]) + " and " + to_string(inputs[1]) +
                   " do not go together");
    if (layout == Layout::blocked && function == Arithmetic::div &&
        channels(spec) % channel_block(dtype) != 0)
        // What fills up the last block might be divided by zero.
        refuse("the input " + to_string(inputs[inputs[0].layout != layout]) + " must be dense");
    size = spec.held();
    if (size == 0) return;
    const Shape a = held_shape(inputs[0], layout), b = held_shape(inputs[1], layout);
    shape = held_shape(spec, layout);
    a_strides = broadcast_strides(a, shape);
    b_strides = broadcast_strides(b, shape);
}

void ArithmeticProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
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
            const double x = double(a[at_a]), y = double(b[at_b]);
            out[i] = T(function == Arithmetic::mul   ? x * y
                       : function == Arithmetic::div ? x / y
                                                     : x + alpha * y);
        }
    });
}

namespace {
const ForEachArithmetic<OperationOf> operations;
}  // namespace

}  // namespace ai3
