// Group by group: mean, variance, then a scale and a shift for each channel. Right in place too.

#include <cmath>

#include "kernels/elementwise.hpp"
#include "kernels/sums.hpp"
#include "ops/group_norm/op.hpp"

namespace ai3 {
namespace {

template <typename T, typename Weight, typename Bias>
class GroupNormPlan final : public Plan {
  public:
    GroupNormPlan(const GroupNorm& problem, const Weight* weight, const Bias* bias)
        : p(problem), weight(weight), bias(bias) {}

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index channels = p.C / p.groups, n = channels * p.plane;
        const bool past_cache = written_past_cache(p.N * p.C * p.plane, p.plane, in, out);
        parallel_ranges(
            p.threads, p.N * p.groups, std::max<Index>(elementwise_grain / 4 / n, 1),
            [&](Index g, Index end) {
                for (; g < end; ++g) {
                    const auto [mean, variance] = moments(in + g * n, n);
                    const double scale = 1 / std::sqrt(variance + p.eps);
                    for (Index c = 0; c < channels; ++c) {
                        const Index at = g % p.groups * channels + c, first = g * n + c * p.plane;
                        const double by = weight ? scale * double(weight[at]) : scale;
                        const Vec<T> factor = broadcast(Lane<T>(by)),
                                     centre = broadcast(Lane<T>(mean));
                        const Vec<T> shift = broadcast(bias ? Lane<T>(bias[at]) : Lane<T>(0));
                        compute_elements(out, first, first + p.plane, past_cache, [&](auto from) {
                            return (from(in) - centre) * factor + shift;
                        });
                    }
                }
            });
    }

  private:
    GroupNorm p;
    const Weight* weight;
    const Bias* bias;
};

class Direct final : public Algorithm<GroupNorm> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const GroupNorm& p, const WeightSet& weights) const override {
        std::unique_ptr<Plan> plan;
        with_real(p.dtype, [&]<typename T>(T) {
            with_weights<T>(weights, [&]<typename W, typename B>(const W* weight, const B* bias) {
                plan = std::make_unique<GroupNormPlan<T, W, B>>(p, weight, bias);
            });
        });
        return plan;
    }
};

const Register<GroupNorm, Direct> registered;

}  // namespace
}  // namespace ai3
