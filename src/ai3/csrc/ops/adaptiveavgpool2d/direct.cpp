// The sum over each bin's rows, then over its columns, then the division. Bins of one element are a
// copy.

#include "kernels/copy.hpp"
#include "ops/adaptiveavgpool2d/op.hpp"
#include "ops/avgpool2d/mean.hpp"
#include "ops/maxpool2d/channels.hpp"
#include "ops/maxpool2d/sliding.hpp"

namespace ai3 {
namespace {

template <typename T>
using Sliding = SlidingPlan<T, Mean<Lane<T>>>;

Axes bins(const AdaptiveAvgPool2d& p) { return {Axis::bins(p.IH, p.OH), Axis::bins(p.IW, p.OW)}; }

class Direct final : public Algorithm<AdaptiveAvgPool2d> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const AdaptiveAvgPool2d& p) const override {
        return with_real(p.dtype, [&](auto zero) {
            return Sliding<decltype(zero)>::workspace_bytes(bins(p), p.threads);
        });
    }

    std::unique_ptr<Plan> plan(const AdaptiveAvgPool2d& p, const WeightSet&) const override {
        if (p.OH == p.IH && p.OW == p.IW) return copy_plan(Index(p.output().bytes()), p.threads);
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            const Axes axes = bins(p);
            Mean<Lane<T>> mean(
                p.OH, p.OW, [&](Index oh) { return axes.h.span(oh).count; },
                [&](Index ow) { return axes.w.span(ow).count; });
            if (!p.dense())
                return std::make_unique<ChannelsPlan<T, Mean<Lane<T>>>>(p, axes, std::move(mean));
            return std::make_unique<Sliding<T>>(p.N * p.C, axes, p.threads, std::move(mean));
        });
    }
};

const Register<AdaptiveAvgPool2d, Direct> registered;

}  // namespace
}  // namespace ai3
