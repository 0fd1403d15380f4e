#include "ops/reorder/op.hpp"

#include "core/mixed.hpp"

namespace ai3 {

Reorder::Reorder(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
    : threads(threads) {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("reorder: " + what);
    };
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    if (!attributes.has("layout")) refuse("needs a layout");
    dtype = inputs[0].dtype;
    output_dtype = output_dtype_of(attributes, dtype);
    shape = inputs[0].shape;
    input_layout = inputs[0].layout;
    const bool image = shape.size() == 3 || shape.size() == 4;
    if (!image && attributes.text("layout", "") != name_of(Layout::dense))
        refuse("the input " + to_string(inputs[0]) + " must be (N, C, H, W) or (C, H, W)");
    output_layout = layout_from(attributes.text("layout", ""), shape);
    if (!image) {
        N = C = H = 1, W = elements(shape);
        return;
    }
    const Index* extents = shape.data() + shape.size() - 3;
    N = shape.size() == 4 ? shape[0] : 1;
    C = extents[0], H = extents[1], W = extents[2];
}

void Reorder::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const ImageStrides from = input_strides(), to = output_strides();
        T* out = static_cast<T*>(output);
        std::fill(out, out + this->output().held(), T(0));
        for (Index n = 0; n < N; ++n)
            for (Index c = 0; c < C; ++c)
                for (Index h = 0; h < H; ++h)
                    for (Index w = 0; w < W; ++w)
                        out[to.at(n, c, h, w)] =
                            static_cast<const T*>(inputs[0])[from.at(n, c, h, w)];
    });
}

namespace {
const OperationOf<Reorder> operation;
}  // namespace

}  // namespace ai3
