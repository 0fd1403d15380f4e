// Direct convolution: the loop nest itself, register-tiled. A tile of output channels x
// neighbouring pixels stays in registers over the reduction; no intermediate matrix is formed.
//
// Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures",
// SC'18, arXiv 1808.05567; Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct
// Convolutions", ICML'18, arXiv 1809.10170.

#include <cmath>

#include "core/simd.hpp"
#include "kernels/dot_pairs.hpp"
#include "ops/conv2d/direct_channels.hpp"
#include "ops/conv2d/direct_depthwise.hpp"
#include "ops/conv2d/direct_pixels.hpp"
#include "ops/conv2d/direct_rows.hpp"
#include "ops/conv2d/direct_whole.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

enum class Way { channels, pixels, depthwise, rows, whole };

struct Estimate {
    Way way;
    double cycles;
};

// What bfloat16 takes by channels: as many steps as its instruction saves or, by floats, some more
// for the conversion of weights. A step beside the sums rounds the result.
double bfloat16_cycles(const Conv2d& p) {
    constexpr double stored = 12;
    const double W = double(channel_block(p.dtype)), taps = double(p.KH * p.KW);
    const double vectors = std::ceil(double(p.group_oc()) / W) * double(p.groups);
    const double pixels = double(p.N * p.OH * p.OW), in_pixels = double(p.N * p.IH * p.IW);
    if (DirectDepthwisePlan<bfloat16>::fits(p))
        return std::ceil(double(p.OC) / W) * (pixels * (taps + stored) + 3 * in_pixels);
    const bool copied = p.padded() || p.input_layout == Layout::dense || !multiplies_pairs();
    return pixels * vectors * (step_cost(p) * double(p.group_ic()) * taps + stored) +
           (copied ? 2 : 0) * in_pixels * std::ceil(double(p.IC) / W) +
           (p.output_layout == Layout::dense ? 5 * pixels * vectors : 0);
}

// The way of least cycles of one thread, a multiply-add of a vector each. Measured on Zen 4: a tile
// of channels costs some 6 steps beside its sums, for loads and stores; vectors of pixels cross
// lines and are read anew for each 8 channels, and the whole image is copied; a depthwise vector
// pays for its store, in NCHW for the transposes of input and output.
Estimate estimate(const Conv2d& p) {
    if (p.dtype == DType::bf16) return {Way::channels, bfloat16_cycles(p)};
    const Index W = channel_block(p.dtype);
    const auto vectors = [&](Index n) { return double((n + W - 1) / W); };
    const double images = double(p.N), taps = double(p.KH * p.KW);
    const double K = double(p.group_ic()) * taps, pixels = images * double(p.OH * p.OW);
    const double in_pixels = images * double(p.IH * p.IW);
    const bool rounds = p.output_dtype != p.dtype;  // vectors of channels, as they are stored
    if (!rounds && DirectWholePlan<float>::fits(p)) return {Way::whole, images * vectors(p.OC) * K};
    const double rows = images * double(p.OH * p.OC) * vectors(p.OW);
    const Estimate by_rows{Way::rows, rows * (1.2 * K + (p.stride_w == 1 ? 3 : 16))};
    if (DirectDepthwisePlan<float>::fits(p)) {
        // A row of NCHW is transposed square by square.
        const double square = 12.0 * double(W);
        double turned = 0;
        if (p.input_layout == Layout::dense) turned += square * double(p.IH) * vectors(p.IW);
        if (p.output_layout == Layout::dense) turned += square * double(p.OH) * vectors(p.OW);
        const Estimate depthwise{Way::depthwise,
                                 vectors(p.OC) * (pixels * (taps + 3) + images * turned)};
        if (!p.dense() || rounds) return depthwise;
        Estimate other = by_rows;
        // Pixels that are far apart are copied one by one.
        const double copied = p.stride_w > 2 ? 50 : 8;
        if (!DirectRowsPlan<float>::fits(p))
            other = {Way::pixels,
                     rows * (1.6 * K + 4) + copied * images * double(p.IC * p.IH) * vectors(p.IW)};
        return depthwise.cycles <= other.cycles ? depthwise : other;
    }
    // One input and several output channels to a group.
    if (!rounds && DirectRowsPlan<float>::fits(p)) return by_rows;
    // NCHW is transposed on its way in and out; pointwise layers read it in place, many planes at a
    // time.
    const double in_vectors = in_pixels * vectors(p.IC), out_vectors = pixels * vectors(p.OC);
    const bool planes = p.dense() && p.KH * p.KW == 1;
    const double turned = (p.input_layout == Layout::dense ? (planes ? 10 : 1.5) * in_vectors : 0) +
                          (p.output_layout == Layout::dense ? (planes ? 21 : 5) * out_vectors : 0);
    const double waiting = p.dense() ? 45 * awaited_vectors(p) : 0;
    // Half a vector of channels last is not stored where it belongs by the tile itself.
    const bool partial = p.output_layout == Layout::channels_last && p.group_oc() % W;
    const double stored = partial ? 16 : rounds ? 12 : 6;
    const double by_channels =
        pixels * double(p.groups) *
            (multiplied_vectors(p.group_oc(), W) * K + vectors(p.group_oc()) * stored) +
        turned;
    const double by_pixels =
        rows * (1.05 * K + 9) + (planes ? 30 : 8) * images * double(p.IC * p.IH) * vectors(p.IW);
    if (p.dense() && !rounds && by_pixels < by_channels) return {Way::pixels, by_pixels + waiting};
    return {Way::channels, by_channels + waiting};
}

template <typename F>
auto with_plan(const Conv2d& p, F&& f) {
    const auto from_bfloat16 = [&]<typename O>(O) {
        if (DirectDepthwisePlan<bfloat16>::fits(p))
            return f(std::type_identity<DirectDepthwisePlan<bfloat16, O>>{});
        return multiplies_pairs() ? f(std::type_identity<DirectChannelsPlan<bfloat16, O>>{})
                                  : f(std::type_identity<DirectChannelsPlan<bfloat16, O, float>>{});
    };
    if (p.dtype == DType::bf16)
        return p.output_dtype == DType::bf16 ? from_bfloat16(bfloat16{}) : from_bfloat16(float{});
    if (p.output_dtype == DType::bf16)
        return DirectDepthwisePlan<float>::fits(p)
                   ? f(std::type_identity<DirectDepthwisePlan<float, bfloat16>>{})
                   : f(std::type_identity<DirectChannelsPlan<float, bfloat16>>{});
    return with_type(p.dtype, [&](auto zero) {
        using T = decltype(zero);
        switch (estimate(p).way) {
            case Way::pixels:
                return f(std::type_identity<DirectPixelsPlan<T>>{});
            case Way::rows:
                return f(std::type_identity<DirectRowsPlan<T>>{});
            case Way::depthwise:
                return f(std::type_identity<DirectDepthwisePlan<T>>{});
            case Way::whole:
                return f(std::type_identity<DirectWholePlan<T>>{});
            default:
                return f(std::type_identity<DirectChannelsPlan<T>>{});
        }
    });
}

class Direct final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_plan(p, [&](auto plan) { return decltype(plan)::type::workspace_bytes(p); });
    }

    double cost(const Conv2d& p) const override { return estimate(p).cycles / p.threads; }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_plan(p, [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p, weights);
        });
    }
};

const Register<Conv2d, Direct> registered;

}  // namespace
}  // namespace ai3
