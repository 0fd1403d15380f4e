// Some channels of the expanded image at a time, and some rows of it where that is large, so that
// it stays in the second-level cache: each part by a direct pointwise convolution and a direct
// depthwise one. Rows between two parts are computed for both.

#include "ops/expand_depthwise/op.hpp"

namespace ai3 {
namespace {

const Algorithm<Conv2d>& direct_conv2d() { return Registry<Conv2d>::instance().at("direct"); }

// Which channels and which rows of the output, and the two convolutions that it takes.
struct Part {
    Index channel, row;
    Conv2d expand, depthwise;
    Index first_row;  // of the input

    Part(const ExpandDepthwise& p, Index channel, Index channels, Index row, Index rows)
        : channel(channel), row(row), expand(p.expand), depthwise(p.depthwise) {
        const Index begin = row * depthwise.stride_h - depthwise.pad_top;
        const Index end =
            begin + (rows - 1) * depthwise.stride_h + (depthwise.KH - 1) * depthwise.dilation_h + 1;
        first_row = std::clamp<Index>(begin, 0, expand.IH);
        const Index height = std::clamp<Index>(end, first_row, expand.IH) - first_row;
        expand.N = depthwise.N = 1;
        expand.threads = depthwise.threads = 1;
        expand.OC = depthwise.IC = depthwise.OC = depthwise.groups = channels;
        expand.IH = expand.OH = expand.held_oh = height;
        depthwise.IH = depthwise.held_ih = height;
        depthwise.OH = rows;
        depthwise.pad_top = std::max<Index>(-begin, 0);
        depthwise.pad_bottom = std::max<Index>(end - p.expand.IH, 0);
    }
};

// Some channels and some rows at a time, all with what they need of workspace.
struct Parts {
    std::vector<Part> parts;
    std::size_t plan_bytes = 0, expanded_bytes = 0;

    explicit Parts(const ExpandDepthwise& p) {
        const Index W = channel_block(p.expand.dtype), OH = p.depthwise.OH;
        const auto divide = [](Index n, Index by) { return (n + by - 1) / by; };
        // Two vectors of channels read the input once, which is worth more where it has many.
        const Index group =
            std::min(divide(p.expand.OC, W), p.expand.IC > 2 * W ? Index{2} : 1) * W;
        const Index groups = divide(p.expand.OC, group);
        constexpr Index cache = Index{400} << 10;
        const Index row_bytes = group * p.expand.OW * Index(size_of(p.expand.output_dtype));
        Index bands = divide(p.expand.OH * row_bytes, cache);
        if (p.threads > 1) bands = std::max(bands, divide(2 * p.threads, p.expand.N * groups));
        bands = std::min(bands, OH);
        for (Index channel = 0; channel < p.expand.OC; channel += group)
            for (Index band = 0; band < bands; ++band) {
                const Index row = OH * band / bands;
                const Part& part =
                    parts.emplace_back(p, channel, std::min(group, p.expand.OC - channel), row,
                                       OH * (band + 1) / bands - row);
                plan_bytes = std::max({plan_bytes, direct_conv2d().workspace_bytes(part.expand),
                                       direct_conv2d().workspace_bytes(part.depthwise)});
                expanded_bytes = std::max(expanded_bytes, part.expand.output().bytes());
            }
        plan_bytes = align_up(plan_bytes), expanded_bytes = align_up(expanded_bytes);
    }
};

class DirectPlan final : public Plan {
  public:
    DirectPlan(const ExpandDepthwise& problem, const WeightSet& weights) : p(problem) {
        const Parts parts(p);
        plan_bytes = parts.plan_bytes, expanded_bytes = parts.expanded_bytes;
        const ImageStrides in = p.expand.input_strides(), out = p.depthwise.output_strides();
        const std::size_t in_size = size_of(p.expand.dtype);
        const std::size_t out_size = size_of(p.depthwise.output_dtype);
        in_image = std::size_t(in.image) * in_size, out_image = std::size_t(out.image) * out_size;
        for (const Part& part : parts.parts) {
            // Bands of the same channels share packed weights.
            const Index end = part.channel + part.expand.OC;
            if (part.row == 0) {
                expand_weights.emplace_back(
                    new WeightSet(ExpandDepthwise::expand_weights(weights, part.channel, end)));
                depthwise_weights.emplace_back(
                    new WeightSet(ExpandDepthwise::depthwise_weights(weights, part.channel, end)));
            }
            steps.push_back(
                {direct_conv2d().plan(part.expand, *expand_weights.back()),
                 direct_conv2d().plan(part.depthwise, *depthwise_weights.back()),
                 std::size_t(part.first_row * in.row) * in_size,
                 std::size_t(out.channel(part.channel) + part.row * out.row) * out_size});
        }
    }

    static std::size_t workspace_bytes(const ExpandDepthwise& p) {
        const Parts parts(p);
        return (parts.plan_bytes + parts.expanded_bytes) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const Index count = Index(steps.size());
        parallel_for(p.threads, p.expand.N * count, [&](Index i, int thread) {
            const Step& step = steps[std::size_t(i % count)];
            const std::size_t image = std::size_t(i / count);
            std::byte* own = workspace + std::size_t(thread) * (plan_bytes + expanded_bytes);
            std::byte* expanded = own + plan_bytes;
            const void* from =
                static_cast<const std::byte*>(inputs[0]) + image * in_image + step.in;
            step.expand->run(&from, expanded, own);
            from = expanded;
            step.depthwise->run(
                &from, static_cast<std::byte*>(output) + image * out_image + step.out, own);
        });
    }

  private:
    struct Step {
        std::unique_ptr<Plan> expand, depthwise;
        std::size_t in, out;  // in bytes from the beginning of an image
    };

    ExpandDepthwise p;
    std::size_t plan_bytes, expanded_bytes, in_image, out_image;
    std::vector<std::unique_ptr<WeightSet>> expand_weights, depthwise_weights;
    std::vector<Step> steps;
};

class Direct final : public Algorithm<ExpandDepthwise> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::string refusal(const ExpandDepthwise& p) const override {
        if (p.expand.input_layout != Layout::blocked) return "its images must be in blocks";
        const Conv2d& d = p.depthwise;
        if (std::max(d.pad_top, d.pad_bottom) > (d.KH - 1) * d.dilation_h)
            return "there are rows of the output that see nothing but padding";
        return {};
    }

    std::size_t workspace_bytes(const ExpandDepthwise& p) const override {
        return DirectPlan::workspace_bytes(p);
    }

    std::unique_ptr<Plan> plan(const ExpandDepthwise& p, const WeightSet& weights) const override {
        return std::make_unique<DirectPlan>(p, weights);
    }
};

const Register<ExpandDepthwise, Direct> registered;

}  // namespace
}  // namespace ai3
