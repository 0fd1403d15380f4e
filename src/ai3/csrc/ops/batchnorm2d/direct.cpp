// One multiply-add for each element, with the scale and shift of each channel computed at planning.
// Right in place too.

#include "ops/batchnorm2d/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 15;

template <typename T>
class BatchNorm2dPlan final : public Plan {
  public:
    BatchNorm2dPlan(const BatchNorm2d& problem, const WeightSet& weights) : p(problem) {
        for (Index c = 0; c < p.C; ++c) {
            const auto [scale, shift] = p.affine(weights, c);
            scales.push_back(T(scale));
            shifts.push_back(T(shift));
        }
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        parallel_ranges(p.threads, p.N * p.C * p.plane, grain, [&](Index i, Index end) {
            while (i < end) {
                const std::size_t c = std::size_t(i / p.plane % p.C);
                const Index stop = std::min((i / p.plane + 1) * p.plane, end);
                const T scale = scales[c], shift = shifts[c];
#pragma GCC ivdep
                for (Index k = i; k < stop; ++k) out[k] = in[k] * scale + shift;
                i = stop;
            }
        });
    }

  private:
    BatchNorm2d p;
    std::vector<T> scales, shifts;
};

class Direct final : public Algorithm<BatchNorm2d> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const BatchNorm2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<BatchNorm2dPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<BatchNorm2d, Direct> registered;

}  // namespace
}  // namespace ai3
