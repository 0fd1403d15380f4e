// Vectors of neighbouring elements of a channel.

#include <cmath>

#include "core/simd.hpp"
#include "ops/local_response_norm/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class LocalResponseNormPlan final : public Plan {
  public:
    explicit LocalResponseNormPlan(const LocalResponseNorm& problem) : p(problem) {}

    void run(const void* const* inputs, void* output, std::byte*) const override {
        constexpr Index grain = 1 << 12;
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index grain_planes = std::max<Index>(grain / std::max<Index>(p.plane, 1), 1);
        parallel_ranges(p.threads, p.N * p.C, grain_planes, [&](Index i, Index end) {
            for (; i < end; ++i) channel(in + i / p.C * p.C * p.plane, i % p.C, out + i * p.plane);
        });
    }

  private:
    void channel(const T* image, Index c, T* out) const {
        constexpr Index W = lanes<T>;
        const Vec<T> k = broadcast(Lane<T>(p.k));
        const Vec<T> factor = broadcast(Lane<T>(p.alpha / double(p.size)));
        for (Index i = 0; i < p.plane; i += W) {
            const auto live = LaneMask<T>::first(std::min(W, p.plane - i));
            Vec<T> squares{};
            for (Index near = p.first(c); near <= p.last(c); ++near) {
                const Vec<T> x = live.load(image + near * p.plane + i);
                squares += x * x;
            }
            const Vec<T> activity = k + factor * squares;
            live.store(out + i, live.load(image + c * p.plane + i) / power(activity));
        }
    }

    Vec<T> power(Vec<T> x) const {
        Vec<T> y;
        if (p.beta == 0.75)
            for (int l = 0; l < lanes<T>; ++l) {
                const Lane<T> root = std::sqrt(x[l]);
                y[l] = root * std::sqrt(root);
            }
        else
            for (int l = 0; l < lanes<T>; ++l) y[l] = std::pow(x[l], Lane<T>(p.beta));
        return y;
    }

    LocalResponseNorm p;
};

class Direct final : public Algorithm<LocalResponseNorm> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const LocalResponseNorm& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<LocalResponseNormPlan<decltype(zero)>>(p);
        });
    }
};

const Register<LocalResponseNorm, Direct> registered;

}  // namespace
}  // namespace ai3
