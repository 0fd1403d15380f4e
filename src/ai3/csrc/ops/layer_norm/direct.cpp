// Slice by slice, which stays in the nearest cache meanwhile: mean, variance, result. Right in
// place too.

#include <cmath>

#include "kernels/elementwise.hpp"
#include "kernels/sums.hpp"
#include "ops/layer_norm/op.hpp"

namespace ai3 {
namespace {

template <typename T, typename Weight, typename Bias>
class LayerNormPlan final : public Plan {
  public:
    LayerNormPlan(const LayerNorm& problem, const Weight* weight, const Bias* bias)
        : p(problem), weight(weight), bias(bias) {}

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const bool past_cache = written_past_cache(p.M * p.n, p.n, in, out);
        parallel_ranges(p.threads, p.M, std::max<Index>(elementwise_grain / 4 / p.n, 1),
                        [&](Index m, Index end) {
                            for (; m < end; ++m) normalize(in + m * p.n, out + m * p.n, past_cache);
                        });
    }

  private:
    void normalize(const T* x, T* out, bool past_cache) const {
        const auto [mean, variance] = moments(x, p.n);
        const Vec<T> scale = broadcast(Lane<T>(1 / std::sqrt(variance + p.eps)));
        const Vec<T> centre = broadcast(Lane<T>(mean));
        const auto result = [&](auto finish) {
            compute_elements(out, 0, p.n, past_cache,
                             [&](auto at) { return finish((at(x) - centre) * scale, at); });
        };
        if (weight && bias)
            result([&](Vec<T> y, auto at) { return y * at(weight) + at(bias); });
        else if (weight)
            result([&](Vec<T> y, auto at) { return y * at(weight); });
        else if (bias)
            result([&](Vec<T> y, auto at) { return y + at(bias); });
        else
            result([](Vec<T> y, auto) { return y; });
    }

    LayerNorm p;
    const Weight* weight;
    const Bias* bias;
};

class Direct final : public Algorithm<LayerNorm> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const LayerNorm& p, const WeightSet& weights) const override {
        std::unique_ptr<Plan> plan;
        with_real(p.dtype, [&]<typename T>(T) {
            with_weights<T>(weights, [&]<typename W, typename B>(const W* weight, const B* bias) {
                plan = std::make_unique<LayerNormPlan<T, W, B>>(p, weight, bias);
            });
        });
        return plan;
    }
};

const Register<LayerNorm, Direct> registered;

}  // namespace
}  // namespace ai3
