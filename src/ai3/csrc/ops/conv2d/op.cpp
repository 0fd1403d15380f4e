#include "ops/conv2d/op.hpp"

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/conv2d.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("conv2d: " + what);
}

PaddingMode parse_padding_mode(const std::string& text) {
    if (text == "zeros") return PaddingMode::zeros;
    if (text == "reflect") return PaddingMode::reflect;
    if (text == "replicate") return PaddingMode::replicate;
    if (text == "circular") return PaddingMode::circular;
    refuse("padding_mode must be 'zeros', 'reflect', 'replicate' or 'circular', not '" + text +
           "'");
}

}  // namespace

Conv2d::Conv2d(const std::vector<Spec>& inputs, const WeightSet& weights,
               const Attributes& attributes, int threads)
    : threads(threads) {
    if (inputs.empty() || inputs.size() > 2 || weights.size() < 1 || weights.size() > 2 ||
        !weights.get(0))
        refuse("takes an input, an optional residual, a weight and an optional bias");
    const Spec& input = inputs[0];
    const Spec& weight = weights.get(0)->spec;
    const Constant* bias = weights.get(1);

    if (weight.shape.size() != 4)
        refuse("weight must be (OC, IC/groups, KH, KW), not " + to_string(weight.shape));
    groups = attributes.integer("groups", 1);
    OC = weight.shape[0], KH = weight.shape[2], KW = weight.shape[3];
    if (groups < 1 || OC % groups) refuse("groups must divide the output channels");
    if (OC < 1 || weight.shape[1] < 1 || KH < 1 || KW < 1)
        refuse("weight " + to_string(weight.shape) + " has an empty dimension");
    IC = checked_product(weight.shape[1], groups);

    batched = input.shape.size() == 4;
    if (input.shape.size() != 4 && input.shape.size() != 3)
        refuse("input must be (N, " + std::to_string(IC) + ", H, W) or (" + std::to_string(IC) +
               ", H, W), not " + to_string(input.shape));
    const Index* extent = input.shape.data() + (batched ? 1 : 0);
    N = batched ? input.shape[0] : 1;
    IH = extent[1], IW = extent[2];
    if (extent[0] != IC)
        refuse("input must have " + std::to_string(IC) + " channels, but " +
               to_string(input.shape) + " has " + std::to_string(extent[0]));

    if (IH < 1 || IW < 1) refuse("input " + to_string(input.shape) + " has an empty image");

    dtype = input.dtype;
    output_dtype = output_dtype_of(attributes, dtype);
    require_weights_of(op, dtype, weights);
    has_bias = bias != nullptr;
    if (has_bias && bias->spec.shape != Shape{OC})
        refuse("bias must be (" + std::to_string(OC) + ",), not " + to_string(bias->spec.shape));

    const auto stride = attributes.integers("stride", 2, {1, 1});
    const auto dilation = attributes.integers("dilation", 2, {1, 1});
    stride_h = stride[0], stride_w = stride[1];
    dilation_h = dilation[0], dilation_w = dilation[1];
    constexpr Index limit = Index{1} << 31;
    for (Index value : {stride_h, stride_w, dilation_h, dilation_w})
        if (value < 1 || value > limit) refuse("stride and dilation must be at least 1");
    if (KH > limit || KW > limit || IH > limit || IW > limit)
        refuse("an extent passes 2^31: input " + to_string(input.shape) + ", weight " +
               to_string(weight.shape));

    padding_mode = parse_padding_mode(attributes.text("padding_mode", "zeros"));
    if (attributes.is_text("padding")) {
        const std::string text = attributes.text("padding", "");
        if (text == "same") {
            if (stride_h != 1 || stride_w != 1) refuse("padding 'same' needs stride 1");
            const Index total_h = dilation_h * (KH - 1), total_w = dilation_w * (KW - 1);
            pad_top = total_h / 2, pad_bottom = total_h - pad_top;
            pad_left = total_w / 2, pad_right = total_w - pad_left;
        } else if (text == "valid") {
            pad_top = pad_bottom = pad_left = pad_right = 0;
        } else {
            refuse("padding must be integers, 'same' or 'valid', not '" + text + "'");
        }
    } else if (attributes.count("padding") == 4) {
        const auto padding = attributes.integers("padding", 4, {});
        pad_top = padding[0], pad_bottom = padding[1], pad_left = padding[2],
        pad_right = padding[3];
    } else {
        const auto padding = attributes.integers("padding", 2, {0, 0});
        pad_top = pad_bottom = padding[0];
        pad_left = pad_right = padding[1];
    }
    for (Index value : {pad_top, pad_bottom, pad_left, pad_right}) {
        if (value < 0 || value > limit) refuse("padding must not be negative");
    }
    const auto fits = [&](Index pad, Index extent) {
        if (padding_mode == PaddingMode::reflect) return pad < extent || pad == 0;
        if (padding_mode == PaddingMode::circular) return pad <= extent;
        return padding_mode == PaddingMode::zeros || pad == 0 || extent > 0;
    };
    if (!fits(std::max(pad_top, pad_bottom), IH) || !fits(std::max(pad_left, pad_right), IW))
        refuse("padding (" + std::to_string(pad_top) + ", " + std::to_string(pad_bottom) + ", " +
               std::to_string(pad_left) + ", " + std::to_string(pad_right) + ") is too large for " +
               attributes.text("padding_mode", "zeros") + " padding of " + to_string(input.shape));

    const Index window_h = dilation_h * (KH - 1) + 1, window_w = dilation_w * (KW - 1) + 1;
    const Index padded_h = IH + pad_top + pad_bottom, padded_w = IW + pad_left + pad_right;
    if (window_h > padded_h || window_w > padded_w)
        refuse("the kernel spans " + std::to_string(window_h) + "x" + std::to_string(window_w) +
               ", more than the padded input's " + std::to_string(padded_h) + "x" +
               std::to_string(padded_w));
    OH = (padded_h - window_h) / stride_h + 1;
    OW = (padded_w - window_w) / stride_w + 1;
    held_ih = IH, held_oh = OH;
    input_layout = input.layout;
    output_layout = layout_from(
        attributes.text("output_layout", std::string(name_of(input_layout))), input.shape);
    activation = activation_from(attributes.text("activation", "none"));
    activation_parameter = attributes.real("activation_parameter", 0);
    has_residual = inputs.size() == 2;
    if (has_residual && inputs[1] != output())
        refuse("the residual must be " + to_string(output()) + ", not " + to_string(inputs[1]));
    // Multiply-adds, and weights, each of which takes as long to read as some of them.
    constexpr double least_work = 100'000, of_weight = 4;
    const double K = double(group_ic() * KH * KW);
    const double work = double(elements(output().shape)) * K + of_weight * double(OC) * K;
    this->threads = threads_worth(work, least_work, threads);
}

Spec Conv2d::output() const {
    return {output_dtype, batched ? Shape{N, OC, OH, OW} : Shape{OC, OH, OW}, output_layout};
}

void Conv2d::reference(const void* const* inputs, const WeightSet& weights, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* input = static_cast<const T*>(inputs[0]);
        const T* residual = has_residual ? static_cast<const T*>(inputs[1]) : nullptr;
        const T* weight = weights.data<T>(0);
        const T* bias = weights.data<T>(1);
        T* out = static_cast<T*>(output);
        const ImageStrides from = input_strides(), to = output_strides();
        std::fill_n(out, this->output().held(), T(0));
        const auto product = [&](Index n, Index oc, Index oh, Index ow) {
            const Index first = oc / group_oc() * group_ic();
            double total = 0;
            for (Index ic = 0; ic < group_ic(); ++ic)
                for (Index kh = 0; kh < KH; ++kh)
                    for (Index kw = 0; kw < KW; ++kw) {
                        const Index ih = padded_source(oh * stride_h + kh * dilation_h - pad_top,
                                                       IH, padding_mode);
                        const Index iw = padded_source(ow * stride_w + kw * dilation_w - pad_left,
                                                       IW, padding_mode);
                        const T x = ih < 0 || iw < 0 ? T(0) : input[from.at(n, first + ic, ih, iw)];
                        total += double(x) *
                                 double(weight[((oc * group_ic() + ic) * KH + kh) * KW + kw]);
                    }
            return total;
        };
        for (Index n = 0; n < N; ++n)
            for (Index oc = 0; oc < OC; ++oc)
                for (Index oh = 0; oh < OH; ++oh)
                    for (Index ow = 0; ow < OW; ++ow) {
                        const Index at = to.at(n, oc, oh, ow);
                        double total = product(n, oc, oh, ow) + (bias ? double(bias[oc]) : 0.0);
                        if (residual) total += double(residual[at]);
                        out[at] = T(activate(activation, activation_parameter, total));
                    }
    });
}

std::string_view Conv2d::guess(const Conv2d& problem) {
    return Registry<Conv2d>::instance().cheapest(problem, "direct");
}

namespace {
const OperationOf<Conv2d> operation;
AI3_REGISTER_CUSTOM(conv2d, Conv2d, 1, 2);
}  // namespace

}  // namespace ai3
