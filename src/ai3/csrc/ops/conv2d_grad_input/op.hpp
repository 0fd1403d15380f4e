// The derivative of a convolution by its input:
//
//   output[n, ic, ih, iw] = sum over oc, and over those oh, kh, ow, kw whose product read
//       input[n, ic, ih, iw], of weight[oc, ic, kh, kw] * grad[n, oc, oh, ow]
//
// grad (N, OC, OH, OW) or (OC, OH, OW) is the derivative by the convolution's output, the weight is
// the convolution's own. Its algorithms are those of conv2d, as the rows and columns of the output
// that are `stride` apart are themselves a convolution of stride 1, of the gradient with the
// kernel's elements that reach them, turned round.
#pragma once

#include "ops/conv2d/op.hpp"

namespace ai3 {

// Along one axis: the elements of the kernel that meet the positions residue + stride * i of the
// padded image, for i in [begin, end).
struct AxisPhase {
    Index residue;                   // in [0, stride)
    Index first, step, taps;         // elements first, first + step, ...
    Index dilation;                  // of those, in steps of the stride
    Index begin, end;                // what is computed, in steps of the stride
    Index needed_begin, needed_end;  // what of that lies where a gradient is wanted
    Index before, after;             // padding of the gradient
};

struct Conv2dGradInput {
    static constexpr std::string_view op = "conv2d_grad_input";
    static constexpr bool takes_bfloat16 = true;

    // Attributes: conv2d's, of which output_dtype is that of this output, and input_size (IH, IW),
    // which stride and output leave open.
    Conv2dGradInput(const std::vector<Spec>& inputs, const WeightSet& weights,
                    const Attributes& attributes, int threads);

    Spec output() const;
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Conv2dGradInput& problem);

    Conv2d forward;
    std::vector<AxisPhase> rows, columns;
    // The convolution of each pair of a row's and a column's phase, rows first: of all images or,
    // where the threads take images, of one.
    std::vector<Conv2d> parts;
    bool by_image;

    // Whether the only part is the output itself.
    bool whole() const;
    // Whether each channel is convolved by itself, with zeros around it and a stride above 1.
    bool strided_depthwise() const;
};

}  // namespace ai3
