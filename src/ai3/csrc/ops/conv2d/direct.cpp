// Direct convolution: the loop nest itself, register-tiled. A tile of output channels x
// neighbouring pixels stays in registers over the reduction; no intermediate matrix is formed.
//
// Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures",
// SC'18, arXiv 1808.05567; Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct
// Convolutions", ICML'18, arXiv 1809.10170.

#include "core/simd.hpp"
#include "ops/conv2d/direct_channels.hpp"
#include "ops/conv2d/direct_pixels.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

// Cycles of one thread, a multiply-add of a vector each, with vectors of channels and of pixels.
// Measured on Zen 4: a tile of channels costs some 11 steps beside its sums, for loads, stores and
// transposes; vectors of pixels cross lines and are read anew for each 8
// channels, and the whole image is copied.
struct Costs {
    double by_channels, by_pixels;

    explicit Costs(const Conv2d& p) {
        const Index W = Index(AI3_VECTOR_BYTES / size_of(p.dtype));
        const auto vectors = [&](Index n) { return double((n + W - 1) / W); };
        const double K = double(p.group_ic() * p.KH * p.KW), outputs = double(p.N * p.groups);
        by_channels = outputs * double(p.OH * p.OW) * vectors(p.group_oc()) * (K + 11);
        by_pixels = outputs * double(p.OH) * vectors(p.OW) * double(p.group_oc()) * (1.05 * K + 2) +
                    8 * double(p.N * p.IC * p.IH) * vectors(p.IW);
    }
};

bool by_pixels(const Conv2d& p) {
    const Costs costs(p);
    return p.dense() && costs.by_pixels < costs.by_channels;
}

class Direct final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            return by_pixels(p) ? DirectPixelsPlan<decltype(zero)>::workspace_bytes(p)
                                : DirectChannelsPlan<decltype(zero)>::workspace_bytes(p);
        });
    }

    double cost(const Conv2d& p) const override {
        const Costs costs(p);
        return std::min(costs.by_channels, costs.by_pixels) / p.threads;
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (by_pixels(p)) return std::make_unique<DirectPixelsPlan<T>>(p, weights);
            return std::make_unique<DirectChannelsPlan<T>>(p, weights);
        });
    }
};

const Register<Conv2d, Direct> registered;

}  // namespace
}  // namespace ai3
