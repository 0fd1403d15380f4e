#include "ops/conv2d_grad_input/op.hpp"

#include <numeric>

#include "core/custom.hpp"
#include "core/mixed.hpp"
#include "custom/conv2d_grad_input.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("conv2d_grad_input: " + what);
}

Conv2d forward_of(const std::vector<Spec>& inputs, const WeightSet& weights,
                  const Attributes& attributes, int threads) {
    if (inputs.size() != 1 || !weights.get(0)) refuse("takes one input and a weight");
    const Spec& grad = inputs[0];
    const Shape& weight = weights.get(0)->spec.shape;
    if (weight.size() != 4) refuse("weight must be (OC, IC/groups, KH, KW)");
    if (grad.shape.size() != 3 && grad.shape.size() != 4)
        refuse("grad must be (N, OC, OH, OW) or (OC, OH, OW), not " + to_string(grad.shape));
    if (!attributes.has("input_size")) refuse("needs input_size (IH, IW)");
    const auto size = attributes.integers("input_size", 2, {});
    const Index IC = checked_product(weight[1], attributes.integer("groups", 1));
    Spec input{grad.dtype, {IC, size[0], size[1]}};
    if (grad.shape.size() == 4) input.shape.insert(input.shape.begin(), grad.shape[0]);
    const WeightSet only_weight(std::vector<std::optional<Constant>>{*weights.get(0)});
    Conv2d forward({input}, only_weight, attributes, threads);
    if (forward.output().shape != grad.shape)
        refuse("of an input " + to_string(input.shape) + " the output is " +
               to_string(forward.output().shape) + ", but grad is " + to_string(grad.shape));
    return forward;
}

// Positions [begin, end) of the padded image are wanted.
std::vector<AxisPhase> phases(Index stride, Index dilation, Index kernel, Index outputs,
                              Index begin, Index end) {
    const auto steps = [&](Index extent) { return extent <= 0 ? 0 : (extent - 1) / stride + 1; };
    const Index common = std::gcd(stride, dilation), step = stride / common;
    std::vector<AxisPhase> result;
    for (Index first = 0; first < std::min(step, kernel); ++first) {
        AxisPhase phase;
        const Index offset = first * dilation / stride;
        phase.residue = first * dilation % stride;
        phase.first = first;
        phase.step = step;
        phase.taps = (kernel - first + step - 1) / step;
        phase.dilation = dilation / common;
        phase.needed_begin = steps(begin - phase.residue);
        phase.needed_end = steps(end - phase.residue);
        if (phase.needed_begin >= phase.needed_end) continue;
        const Index span = offset + (phase.taps - 1) * phase.dilation;
        phase.begin = std::min(phase.needed_begin, span);
        phase.end = std::max(phase.needed_end, outputs + offset);
        phase.before = span - phase.begin;
        phase.after = phase.end - outputs - offset;
        result.push_back(phase);
    }
    return result;
}

}  // namespace

Conv2dGradInput::Conv2dGradInput(const std::vector<Spec>& inputs, const WeightSet& weights,
                                 const Attributes& attributes, int threads)
    : forward(forward_of(inputs, weights, attributes, threads)) {
    const Conv2d& f = forward;
    const bool zeros = f.padding_mode == PaddingMode::zeros;
    const auto along = [&](Index stride, Index dilation, Index kernel, Index outputs, Index before,
                           Index extent, Index after) {
        return zeros ? phases(stride, dilation, kernel, outputs, before, before + extent)
                     : phases(stride, dilation, kernel, outputs, 0, before + extent + after);
    };
    rows = along(f.stride_h, f.dilation_h, f.KH, f.OH, f.pad_top, f.IH, f.pad_bottom);
    columns = along(f.stride_w, f.dilation_w, f.KW, f.OW, f.pad_left, f.IW, f.pad_right);
    // What has to be put together is so while it is in the thread's own cache.
    by_image = !whole() && f.N >= 2 * f.threads;
    const Index images = by_image ? 1 : f.N;
    if (by_image) threads = 1;
    for (const AxisPhase& row : rows)
        for (const AxisPhase& column : columns) {
            const Spec weight{f.dtype, {f.IC, f.group_oc(), row.taps, column.taps}};
            Attributes derived({
                {"dilation", std::vector<Index>{row.dilation, column.dilation}},
                {"padding", std::vector<Index>{row.before, row.after, column.before, column.after}},
                {"groups", f.groups},
            });
            if (f.dtype == DType::bf16)
                derived.set(output_dtype, std::string(name_of(f.output_dtype)));
            parts.emplace_back(
                std::vector<Spec>{{f.dtype, {images, f.OC, f.OH, f.OW}}},
                WeightSet(std::vector<std::optional<Constant>>{Constant{weight, nullptr, nullptr}}),
                derived, threads);
        }
}

bool Conv2dGradInput::whole() const {
    const auto all = [](const std::vector<AxisPhase>& phases) {
        return phases.size() == 1 && phases[0].begin == phases[0].needed_begin &&
               phases[0].end == phases[0].needed_end;
    };
    return forward.stride_h == 1 && forward.stride_w == 1 &&
           forward.padding_mode == PaddingMode::zeros && all(rows) && all(columns);
}

bool Conv2dGradInput::strided_depthwise() const {
    const Conv2d& f = forward;
    return f.groups == f.IC && f.OC == f.IC && f.padding_mode == PaddingMode::zeros &&
           (f.stride_h > 1 || f.stride_w > 1);
}

Spec Conv2dGradInput::output() const {
    const Conv2d& f = forward;
    return {f.output_dtype, f.batched ? Shape{f.N, f.IC, f.IH, f.IW} : Shape{f.IC, f.IH, f.IW}};
}

void Conv2dGradInput::reference(const void* const* inputs, const WeightSet& weights,
                                void* output) const {
    const Conv2d& f = forward;
    with_type(f.dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* grad = static_cast<const T*>(inputs[0]);
        const T* weight = weights.data<T>(0);
        T* out = static_cast<T*>(output);
        std::vector<double> plane(std::size_t(f.IH * f.IW));
        for (Index n = 0; n < f.N; ++n)
            for (Index c = 0; c < f.IC; ++c) {
                std::fill(plane.begin(), plane.end(), 0.0);
                const Index group = c / f.group_ic(), ic = c % f.group_ic();
                for (Index oc = group * f.group_oc(); oc < (group + 1) * f.group_oc(); ++oc)
                    for (Index oh = 0; oh < f.OH; ++oh)
                        for (Index ow = 0; ow < f.OW; ++ow) {
                            const double g = grad[((n * f.OC + oc) * f.OH + oh) * f.OW + ow];
                            for (Index kh = 0; kh < f.KH; ++kh)
                                for (Index kw = 0; kw < f.KW; ++kw) {
                                    const Index ih = padded_source(
                                        oh * f.stride_h + kh * f.dilation_h - f.pad_top, f.IH,
                                        f.padding_mode);
                                    const Index iw = padded_source(
                                        ow * f.stride_w + kw * f.dilation_w - f.pad_left, f.IW,
                                        f.padding_mode);
                                    if (ih < 0 || iw < 0) continue;
                                    plane[std::size_t(ih * f.IW + iw)] +=
                                        g *
                                        double(
                                            weight[((oc * f.group_ic() + ic) * f.KH + kh) * f.KW +
                                                   kw]);
                                }
                        }
                for (double total : plane) *out++ = T(total);
            }
    });
}

std::string_view Conv2dGradInput::choose(const Conv2dGradInput& problem) {
    if (problem.strided_depthwise()) return "direct";
    return Registry<Conv2dGradInput>::instance().cheapest(problem, "direct");
}

namespace {
const OperationOf<Conv2dGradInput> operation;
AI3_REGISTER_CUSTOM(conv2d_grad_input, Conv2dGradInput, 1, 1);
}  // namespace

}  // namespace ai3
