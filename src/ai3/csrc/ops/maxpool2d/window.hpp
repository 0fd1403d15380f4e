// What problems of pooling share: windows of KH x KW elements that slide over every plane of the
// input, (N, C, IH, IW) or (C, IH, IW), in any layout, which is the output's too. The window of
// output (oh, ow) is made of the elements
//
//   ih = oh * stride_h + kh * dilation_h - pad_h,   iw = ow * stride_w + kw * dilation_w - pad_w
//
// that lie inside of the plane.
#pragma once

#include <algorithm>

#include "core/operation.hpp"

namespace ai3 {

// The elements of one window along one dimension, those outside of the plane left out.
struct Span {
    Index begin, count;
};

// Bin `i` of `output` ones that cover `input` elements evenly, from floor(i * input / output) to
// ceil((i + 1) * input / output), exclusive.
constexpr Span bin(Index i, Index input, Index output) {
    const Index whole = input / output, rest = input % output;
    const Index begin = i * whole + i * rest / output;
    return {begin, (i + 1) * whole + ((i + 1) * rest + output - 1) / output - begin};
}

struct Pooling2d {
    // The extents of the input alone; the output's and the windows remain to be set.
    Pooling2d(std::string_view op, const std::vector<Spec>& inputs, const WeightSet& weights,
              int threads)
        : threads(threads) {
        if (inputs.size() != 1 || weights.size() != 0) refuse(op, "takes one input and no weights");
        const Shape& shape = inputs[0].shape;
        if (shape.size() != 3 && shape.size() != 4)
            refuse(op, "input must be (N, C, H, W) or (C, H, W), not " + to_string(shape));
        dtype = inputs[0].dtype;
        layout = inputs[0].layout;
        batched = shape.size() == 4;
        N = batched ? shape[0] : 1;
        C = shape[shape.size() - 3], IH = shape[shape.size() - 2], IW = shape[shape.size() - 1];
        if (IH < 1 || IW < 1) refuse(op, "input " + to_string(shape) + " has an empty image");
        if (IH > limit || IW > limit) refuse(op, "an extent passes 2^61: " + to_string(shape));
        elements(shape);
    }

    // Attributes: kernel_size, stride (None: kernel_size), padding, ceil_mode, and what `dilation`
    // says.
    Pooling2d(std::string_view op, const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, const std::vector<Index>& dilation, int threads)
        : Pooling2d(op, inputs, weights, threads) {
        if (C < 1) refuse(op, "input " + to_string(inputs[0].shape) + " has no channels");
        if (!attributes.has("kernel_size")) refuse(op, "kernel_size must be given");
        const auto kernel = attributes.integers("kernel_size", 2, {});
        const auto stride = attributes.integers("stride", 2, kernel);
        const auto padding = attributes.integers("padding", 2, {0, 0});
        for (std::size_t i : {0, 1}) {
            if (kernel[i] < 1 || stride[i] < 1 || dilation[i] < 1)
                refuse(op, "kernel_size, stride and dilation must be at least 1");
            if (kernel[i] > attribute_limit || stride[i] > attribute_limit ||
                dilation[i] > attribute_limit)
                refuse(op, "kernel_size, stride and dilation must not pass 2^30");
            if (padding[i] < 0 || padding[i] > kernel[i] / 2)
                refuse(op, "padding must be from 0 to half of kernel_size, not " +
                               std::to_string(padding[i]) + " for " + std::to_string(kernel[i]));
        }
        KH = kernel[0], KW = kernel[1];
        stride_h = stride[0], stride_w = stride[1];
        pad_h = padding[0], pad_w = padding[1];
        dilation_h = dilation[0], dilation_w = dilation[1];
        const bool ceil_mode = attributes.flag("ceil_mode", false);
        OH = windows(IH, KH, stride_h, pad_h, dilation_h, ceil_mode);
        OW = windows(IW, KW, stride_w, pad_w, dilation_w, ceil_mode);
        if (OH < 1 || OW < 1)
            refuse(op, "the window spans " + std::to_string(dilation_h * (KH - 1) + 1) + "x" +
                           std::to_string(dilation_w * (KW - 1) + 1) +
                           ", more than the padded input's " + std::to_string(IH + 2 * pad_h) +
                           "x" + std::to_string(IW + 2 * pad_w));
        elements(output().shape);
    }

    Spec output() const {
        return {dtype, batched ? Shape{N, C, OH, OW} : Shape{C, OH, OW}, layout};
    }
    bool dense() const { return layout == Layout::dense; }

    DType dtype;
    Layout layout;
    bool batched;
    Index N, C, IH, IW, OH = 0, OW = 0, KH = 1, KW = 1;
    Index stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1;
    int threads;

  protected:
    // For each output, value(at, oh, ow), where at(ih, iw) is an element of the same plane.
    template <typename T, typename Value>
    void compute_planes(const void* input, void* output, Value value) const {
        const T* in = static_cast<const T*>(input);
        T* out = static_cast<T*>(output);
        const ImageStrides from(layout, dtype, C, IH, IW), to(layout, dtype, C, OH, OW);
        std::fill_n(out, this->output().held(), T(0));
        for (Index n = 0; n < N; ++n)
            for (Index c = 0; c < C; ++c)
                for (Index oh = 0; oh < OH; ++oh)
                    for (Index ow = 0; ow < OW; ++ow)
                        out[to.at(n, c, oh, ow)] = value(
                            [&](Index ih, Index iw) { return in[from.at(n, c, ih, iw)]; }, oh, ow);
    }

    [[noreturn]] static void refuse(std::string_view op, const std::string& what) {
        throw std::invalid_argument(std::string(op) + ": " + what);
    }

  private:
    static constexpr Index limit = Index{1} << 61, attribute_limit = Index{1} << 30;

    // In ceil mode the last window may reach past the right padding, but must start before it.
    static Index windows(Index extent, Index kernel, Index stride, Index pad, Index dilation,
                         bool ceil_mode) {
        const Index room = extent + 2 * pad - dilation * (kernel - 1) - 1;
        const Index steps = room + (ceil_mode ? stride - 1 : 0);
        const Index count = steps < 0 ? 0 : steps / stride + 1;
        return ceil_mode && (count - 1) * stride >= extent + pad ? count - 1 : count;
    }
};

}  // namespace ai3
