// The derivative by the input as convolutions of stride 1, one for each phase of the stride in rows
// and columns; where there are several, or where padding shows the image's own elements, their
// results are put together in a pass of their own.
//
// Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", arXiv 1603.07285,
// section 4, on transposed convolutions; the phases are the polyphase components of upsampling.

#include "kernels/gather_channels.hpp"
#include "ops/conv2d_grad_input/depthwise.hpp"
#include "ops/conv2d_grad_input/direct.hpp"
#include "ops/conv2d_grad_input/op.hpp"

namespace ai3 {
namespace {

// The weight of a part: (IC, OC / groups, taps of the row, taps of the column), turned round.
template <typename T>
Constant turned(const Conv2d& f, const AxisPhase& row, const AxisPhase& column, const T* weight) {
    const Index taps = row.taps * column.taps, gic = f.group_ic(), goc = f.group_oc();
    constexpr DType dtype = std::is_same_v<T, bfloat16> ? DType::bf16
                            : std::is_same_v<T, float>  ? DType::f32
                                                        : DType::f64;
    const Spec spec{dtype, {f.IC, goc, row.taps, column.taps}};
    auto buffer = pooled_buffer(spec.bytes());
    T* to = buffer->template as<T>();
    std::vector<Index> from;
    for (Index kh = row.taps; kh-- > 0;)
        for (Index kw = column.taps; kw-- > 0;)
            from.push_back((row.first + kh * row.step) * f.KW + column.first + kw * column.step);
    const Index size = f.KH * f.KW;
    constexpr Index W = lanes<T>;
    // Squares of channels, so that lines of either side are used whole.
    const Index blocks = (gic + W - 1) / W;
    const auto turn = [&](auto square) {
        parallel_for(f.threads, f.groups * blocks, [&](Index i, int) {
            const Index group = i / blocks, ic = i % blocks * W, height = std::min(W, gic - ic);
            for (Index oc = 0; oc < goc; oc += W)
                square(weight + ((group * goc + oc) * gic + ic) * size,
                       to + ((group * gic + ic) * goc + oc) * taps, height, std::min(W, goc - oc));
        });
    };
    const auto one_by_one = [&](auto copy) {
        turn([&, copy](const T* elements, T* targets, Index height, Index width) {
            for (Index ic = 0; ic < height; ++ic)
                for (Index oc = 0; oc < width; ++oc)
                    copy(elements + (oc * gic + ic) * size, targets + (ic * goc + oc) * taps);
        });
    };
    if (size == 1) {
        turn([&](const T* elements, T* targets, Index height, Index width) {
            if constexpr (std::is_same_v<T, Lane<T>>)
                if (width == W) {
                    gather_channels(elements, gic, height, W, targets, goc);
                    return;
                }
            for (Index ic = 0; ic < height; ++ic)
                for (Index oc = 0; oc < width; ++oc)
                    targets[ic * goc + oc] = elements[oc * gic + ic];
        });
    } else if (size <= 2 * W && taps <= W) {
        const auto low = LaneMask<T>::first(std::min(W, size));
        const auto high = LaneMask<T>::first(std::max<Index>(0, size - W));
        const auto live = LaneMask<T>::first(taps);
        VecIndex<T> order{};
        for (Index k = 0; k < taps; ++k) order[k] = from[std::size_t(k)];
        one_by_one([&](const T* element, T* target) {
            const Vec<T> rest = size > W ? high.load(element + W) : Vec<T>{};
            live.store(target, shuffle<T>(low.load(element), rest, order));
        });
    } else {
        one_by_one([&](const T* element, T* target) {
            for (Index k = 0; k < taps; ++k) target[k] = element[from[std::size_t(k)]];
        });
    }
    return {spec, buffer->data(), buffer};
}

// From T to O: of bfloat16, the output may be float.
template <typename T, typename O = T>
class GradInputPlan final : public Plan {
  public:
    GradInputPlan(const Conv2dGradInput& problem, const WeightSet& weights,
                  const Algorithm<Conv2d>& algorithm)
        : p(problem), whole(p.whole()), each(bytes(p, algorithm)) {
        const Conv2d& f = p.forward;
        std::size_t part = 0, offset = workspace_of_parts(p, algorithm);
        for (const AxisPhase& row : p.rows)
            for (const AxisPhase& column : p.columns) {
                const Conv2d& conv = p.parts[part++];
                with_weights<T>(weights, [&](const auto* from, const auto*) {
                    auto weight = std::make_shared<WeightSet>(
                        std::vector<std::optional<Constant>>{turned(f, row, column, from)});
                    steps.push_back({algorithm.plan(conv, *weight), weight, offset});
                });
                offset += align_up(conv.output().bytes());
            }
        sources = {targets(p.rows, f.stride_h, f.pad_top, f.IH),
                   targets(p.columns, f.stride_w, f.pad_left, f.IW)};
    }

    static std::size_t workspace_bytes(const Conv2dGradInput& p,
                                       const Algorithm<Conv2d>& algorithm) {
        return bytes(p, algorithm) * std::size_t(p.by_image ? p.forward.threads : 1);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const Conv2d& f = p.forward;
        O* out = static_cast<O*>(output);
        if (whole) {
            steps[0].plan->run(inputs, output, workspace);
        } else if (p.by_image) {
            const T* grad = static_cast<const T*>(inputs[0]);
            parallel_for(f.threads, f.N, [&](Index n, int thread) {
                std::byte* own = workspace + std::size_t(thread) * each;
                run_parts(grad + n * f.OC * f.OH * f.OW, own);
                for (Index plane = 0; plane < f.IC; ++plane)
                    put_together(own, plane, out + (n * f.IC + plane) * f.IH * f.IW);
            });
        } else {
            run_parts(static_cast<const T*>(inputs[0]), workspace);
            parallel_for(f.threads, f.N * f.IC, [&](Index plane, int) {
                put_together(workspace, plane, out + plane * f.IH * f.IW);
            });
        }
    }

  private:
    struct Step {
        std::unique_ptr<const Plan> plan;
        std::shared_ptr<const WeightSet> weight;
        std::size_t offset;
    };
    using Targets = std::vector<std::vector<Index>>;

    // What the parts of all images, or of one, need.
    static std::size_t bytes(const Conv2dGradInput& p, const Algorithm<Conv2d>& algorithm) {
        std::size_t bytes = workspace_of_parts(p, algorithm);
        if (!p.whole())
            for (const Conv2d& part : p.parts) bytes += align_up(part.output().bytes());
        return bytes;
    }

    static std::size_t workspace_of_parts(const Conv2dGradInput& p,
                                          const Algorithm<Conv2d>& algorithm) {
        std::size_t bytes = 0;
        for (const Conv2d& part : p.parts)
            bytes = std::max(bytes, align_up(algorithm.workspace_bytes(part)));
        return bytes;
    }

    void run_parts(const T* grad, std::byte* workspace) const {
        const void* const inputs[] = {grad};
        for (const Step& step : steps) step.plan->run(inputs, workspace + step.offset, workspace);
    }

    // One plane of the output from the same one of all parts.
    void put_together(const std::byte* workspace, Index plane, O* to) const {
        std::fill(to, to + p.forward.IH * p.forward.IW, O(0));
        const Step* step = steps.data();
        for (std::size_t r = 0; r < p.rows.size(); ++r)
            for (std::size_t c = 0; c < p.columns.size(); ++c, ++step) {
                const Index height = p.rows[r].end - p.rows[r].begin;
                const Index width = p.columns[c].end - p.columns[c].begin;
                const O* from = reinterpret_cast<const O*>(workspace + step->offset);
                add(from + plane * height * width, width, sources[0][r], sources[1][c],
                    p.columns[c], to);
            }
    }

    // For each phase, where in the image each of its positions goes, or -1.
    Targets targets(const std::vector<AxisPhase>& phases, Index stride, Index pad,
                    Index extent) const {
        Targets result;
        for (const AxisPhase& phase : phases) {
            auto& target = result.emplace_back();
            for (Index i = phase.begin; i < phase.end; ++i)
                target.push_back(i < phase.needed_begin || i >= phase.needed_end
                                     ? -1
                                     : padded_source(phase.residue + i * stride - pad, extent,
                                                     p.forward.padding_mode));
        }
        return result;
    }

    void add(const O* from, Index width, const std::vector<Index>& rows,
             const std::vector<Index>& columns, const AxisPhase& phase, O* to) const {
        const Conv2d& f = p.forward;
        const Index stride = f.stride_w;
        const bool zeros = f.padding_mode == PaddingMode::zeros;
        const Index begin = phase.needed_begin - phase.begin;
        const Index count = phase.needed_end - phase.needed_begin;
        for (std::size_t row = 0; row < rows.size(); ++row, from += width) {
            if (rows[row] < 0) continue;
            O* line = to + rows[row] * f.IW;
            if (zeros) {
                // Nothing else is added to these.
                O* first = line + columns[std::size_t(begin)];
                const O* source = from + begin;
                if (stride == 1)
                    std::copy(source, source + count, first);
                else if (stride == 2)
                    for (Index i = 0; i < count; ++i) first[2 * i] = source[i];
                else
                    for (Index i = 0; i < count; ++i) first[i * stride] = source[i];
            } else if constexpr (std::is_same_v<O, Lane<O>>) {
                for (Index i = 0; i < count; ++i)
                    line[columns[std::size_t(begin + i)]] += from[begin + i];
            }
        }
    }

    Conv2dGradInput p;
    bool whole;
    std::size_t each;
    std::vector<Step> steps;
    std::array<Targets, 2> sources;
};

// 'direct' need not be a convolution.
enum class Way { depthwise, direct, convolution };

double direct_cost(const Conv2dGradInput& p) {
    return with_type(p.forward.dtype,
                     [&](auto zero) { return DirectGradInput<decltype(zero)>::cost(p); });
}

// With what it takes to turn and to pack a weight, as it is a new one after each step of a
// training. Measured on Zen 4.
double convolution_cost(const Conv2dGradInput& p, const Algorithm<Conv2d>& algorithm) {
    const Conv2d& f = p.forward;
    double cost = 0;
    for (const Conv2d& part : p.parts)
        cost += algorithm.refusal(part).empty() ? algorithm.cost(part)
                                                : std::numeric_limits<double>::infinity();
    if (p.by_image) cost *= double(f.N) / f.threads;
    const double bytes = double(f.OC * f.group_ic() * f.KH * f.KW * size_of(f.dtype));
    return cost + 2.4 * bytes / f.threads;
}

Way way(const Conv2dGradInput& p, const Algorithm<Conv2d>& algorithm) {
    if (algorithm.name() != "direct" || p.forward.dtype == DType::bf16) return Way::convolution;
    if (p.strided_depthwise()) return Way::depthwise;
    return direct_cost(p) < convolution_cost(p, algorithm) ? Way::direct : Way::convolution;
}

// Calls f with the type of the plan.
template <typename F>
auto with_plan(const Conv2dGradInput& p, const Algorithm<Conv2d>& algorithm, F&& f) {
    if (p.forward.dtype == DType::bf16)
        return p.forward.output_dtype == DType::bf16
                   ? f(std::type_identity<GradInputPlan<bfloat16>>{})
                   : f(std::type_identity<GradInputPlan<bfloat16, float>>{});
    return with_type(p.forward.dtype, [&](auto zero) {
        using T = decltype(zero);
        switch (way(p, algorithm)) {
            case Way::depthwise:
                return f(std::type_identity<DepthwiseGradInput<T>>{});
            case Way::direct:
                return f(std::type_identity<DirectGradInput<T>>{});
            default:
                return f(std::type_identity<GradInputPlan<T>>{});
        }
    });
}

class ByConvolution final : public Algorithm<Conv2dGradInput> {
  public:
    explicit ByConvolution(const Algorithm<Conv2d>& algorithm) : algorithm_(algorithm) {}

    std::string_view name() const override { return algorithm_.name(); }
    bool takes_bfloat16() const override { return algorithm_.takes_bfloat16(); }

    bool elected() const override { return algorithm_.elected(); }

    std::string refusal(const Conv2dGradInput& p) const override {
        if (p.forward.dtype == DType::bf16 && p.forward.padding_mode != PaddingMode::zeros)
            return "what padding shows of the image is summed in float32";
        for (const Conv2d& part : p.parts)
            if (std::string reason = algorithm_.refusal(part); !reason.empty())
                return (p.parts.size() > 1 ? "of one of the convolutions for its strides " : "") +
                       reason;
        return {};
    }

    std::size_t workspace_bytes(const Conv2dGradInput& p) const override {
        return with_plan(p, algorithm_, [&]<typename P>(std::type_identity<P>) {
            if constexpr (requires { P::workspace_bytes(p); })
                return P::workspace_bytes(p);
            else
                return P::workspace_bytes(p, algorithm_);
        });
    }

    double cost(const Conv2dGradInput& p) const override {
        return way(p, algorithm_) == Way::direct ? direct_cost(p) : convolution_cost(p, algorithm_);
    }

    std::unique_ptr<Plan> plan(const Conv2dGradInput& p, const WeightSet& weights) const override {
        return with_plan(p, algorithm_,
                         [&]<typename P>(std::type_identity<P>) -> std::unique_ptr<Plan> {
                             if constexpr (requires { P(p, weights); })
                                 return std::make_unique<P>(p, weights);
                             else
                                 return std::make_unique<P>(p, weights, algorithm_);
                         });
    }

  private:
    const Algorithm<Conv2d>& algorithm_;
};

const RegisterDerived<Conv2dGradInput, Conv2d, ByConvolution> registered;

}  // namespace
}  // namespace ai3
