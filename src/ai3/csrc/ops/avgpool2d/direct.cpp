// The sum over each window's rows, then over its columns, then the division.

#include "ops/avgpool2d/mean.hpp"
#include "ops/avgpool2d/op.hpp"
#include "ops/maxpool2d/channels.hpp"
#include "ops/maxpool2d/sliding.hpp"

namespace ai3 {
namespace {

template <typename T>
using Sliding = SlidingPlan<T, Mean<Lane<T>>>;

class Direct final : public Algorithm<AvgPool2d> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const AvgPool2d& p) const override {
        return with_real(p.dtype, [&](auto zero) {
            return Sliding<decltype(zero)>::workspace_bytes(axes(p), p.threads);
        });
    }

    std::unique_ptr<Plan> plan(const AvgPool2d& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            Mean<Lane<T>> mean(
                p.OH, p.OW, [&](Index oh) { return p.divisor_h(oh); },
                [&](Index ow) { return p.divisor_w(ow); });
            if (!p.dense())
                return std::make_unique<ChannelsPlan<T, Mean<Lane<T>>>>(p, axes(p),
                                                                        std::move(mean));
            return std::make_unique<Sliding<T>>(p.N * p.C, axes(p), p.threads, std::move(mean));
        });
    }
};

const Register<AvgPool2d, Direct> registered;

}  // namespace
}  // namespace ai3
