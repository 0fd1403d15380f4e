// Direct convolution whose kernel is as large as the image, as where a squeezed image of one pixel
// is excited again (Hu et al., "Squeeze-and-Excitation Networks", CVPR'18, arXiv 1709.01507): the
// product of a linear layer, limited by reading the weight, which it reads as it lies.
#pragma once

#include "ops/conv2d/op.hpp"
#include "ops/linear/rows.hpp"

namespace ai3 {

template <typename T>
class DirectWholePlan final : public Plan {
  public:
    static bool fits(const Conv2d& p) {
        const Index elements = p.IC * p.IH * p.IW;
        return p.groups == 1 && p.KH == p.IH && p.KW == p.IW && !p.padded() && p.N < few_rows &&
               p.held_ih == p.IH && p.held_oh == p.OH &&
               (p.input_layout == Layout::dense || p.IH * p.IW == 1) &&
               (p.N == 1 ||
                (p.input_strides().image == elements && p.output_strides().image == p.OC));
    }

    static std::size_t workspace_bytes(const Conv2d&) { return 0; }

    DirectWholePlan(const Conv2d& p, const WeightSet& weights)
        : rows(linear(p), weights), written(p.N * p.OC), held(p.N * p.output_strides().image) {}

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        rows.run(inputs, output, workspace);
        T* out = static_cast<T*>(output);
        std::fill(out + written, out + held, T(0));
    }

  private:
    static Linear linear(const Conv2d& p) {
        const Index IC = p.IC * p.KH * p.KW;
        const auto bias = p.has_bias ? std::optional(Shape{p.OC}) : std::nullopt;
        Linear made({{p.dtype, {p.N, IC}}}, WeightSet::of_shapes(p.dtype, {p.OC, IC}, bias), {},
                    p.threads);
        made.has_residual = p.has_residual;
        made.activation = p.activation;
        made.activation_parameter = p.activation_parameter;
        return made;
    }

    RowsPlan<T> rows;
    Index written, held;
};

}  // namespace ai3
