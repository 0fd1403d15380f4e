// Along rows of memory a row at a time, along other dimensions a vector of neighbouring norms at a
// time. Right in place too.

#include <cmath>

#include "kernels/elementwise.hpp"
#include "kernels/lines.hpp"
#include "kernels/sums.hpp"
#include "ops/normalize/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 14;

template <typename T>
void normalize_row(const T* in, T* out, Index n, double eps) {
    const double norm = std::sqrt(sum_of(in, n, [](Vec<T> v) { return v * v; }));
    const Vec<T> factor = broadcast(Lane<T>(1 / (norm < eps ? eps : norm)));
    compute_elements(out, 0, n, false, [&](auto at) { return at(in) * factor; });
}

// One vector, of the lanes that live, of neighbouring norms.
template <typename T>
void normalize_lanes(const T* in, T* out, Index n, Index stride, double eps, LaneMask<T> live) {
    Vec<T> factor{};
    for (Index k = 0; k < n; ++k) {
        const Vec<T> x = live.load(in + k * stride);
        factor += x * x;
    }
    for (int l = 0; l < lanes<T>; ++l) {
        const double norm = std::sqrt(double(factor[l]));
        factor[l] = Lane<T>(1 / (norm < eps ? eps : norm));
    }
    for (Index k = 0; k < n; ++k) live.store(out + k * stride, live.load(in + k * stride) * factor);
}

template <typename T>
std::unique_ptr<Plan> plan_of(const Normalize& p) {
    return make_plan([p](const void* const* inputs, void* output, std::byte*) {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for_each_line<T>(
            p.threads, p.outer, p.n, p.inner, grain,
            [&](Index at) { normalize_row(in + at, out + at, p.n, p.eps); },
            [&](Index at, LaneMask<T> live) {
                normalize_lanes(in + at, out + at, p.n, p.inner, p.eps, live);
            });
    });
}

class Direct final : public Algorithm<Normalize> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const Normalize& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) { return plan_of<decltype(zero)>(p); });
    }
};

const Register<Normalize, Direct> registered;

}  // namespace
}  // namespace ai3
