// One multiply-add for each element, with the scale and shift of each channel computed at planning.
// Right in place too.

#include "kernels/elementwise.hpp"
#include "ops/batchnorm2d/op.hpp"

namespace ai3 {
namespace {

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
        const Index size = p.N * p.C * p.plane;
        const bool past_cache = written_past_cache(size, p.plane, in, out);
        parallel_ranges(p.threads, size, elementwise_grain, [&](Index i, Index end) {
            while (i < end) {
                const Index plane = i / p.plane, stop = std::min((plane + 1) * p.plane, end);
                const Vec<T> scale = broadcast(scales[std::size_t(plane % p.C)]);
                const Vec<T> shift = broadcast(shifts[std::size_t(plane % p.C)]);
                compute_elements(out, i, stop, past_cache,
                                 [&](auto at) { return at(in) * scale + shift; });
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
