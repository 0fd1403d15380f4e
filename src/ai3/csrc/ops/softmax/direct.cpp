// Along rows of memory a row at a time, along other dimensions a vector of neighbouring sums at a
// time. Right in place too.

#include "kernels/elementary.hpp"
#include "kernels/lines.hpp"
#include "kernels/softmax_row.hpp"
#include "ops/softmax/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 13;

// One vector, of the lanes that live, of neighbouring sums.
template <typename T>
void softmax_lanes(const T* in, T* out, Index n, Index stride, LaneMask<T> live) {
    Vec<T> most = live.load(in), total{};
    for (Index k = 1; k < n; ++k) most = larger<T>(most, live.load(in + k * stride));
    for (Index k = 0; k < n; ++k) {
        const Vec<T> y = exp<T>(live.load(in + k * stride) - most);
        total += y;
        live.store(out + k * stride, y);
    }
    const Vec<T> scale = T(1) / total;
    for (Index k = 0; k < n; ++k) live.store(out + k * stride, live.load(out + k * stride) * scale);
}

// The same in bfloat16, rounded once: exponentials are computed twice, and not stored between.
inline void softmax_lanes(const bfloat16* in, bfloat16* out, Index n, Index stride,
                          LaneMask<bfloat16> live) {
    Vec<float> most = live.load(in), total{};
    for (Index k = 1; k < n; ++k) most = larger<float>(most, live.load(in + k * stride));
    const auto value = [&](Index k) { return exp<float>(live.load(in + k * stride) - most); };
    for (Index k = 0; k < n; ++k) total += value(k);
    const Vec<float> scale = 1 / total;
    for (Index k = 0; k < n; ++k) live.store(out + k * stride, value(k) * scale);
}

template <typename T>
std::unique_ptr<Plan> plan_of(const Softmax& p) {
    return make_plan([p](const void* const* inputs, void* output, std::byte*) {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for_each_line<T>(
            p.threads, p.outer, p.n, p.inner, grain,
            [&](Index at) { softmax_row(in + at, out + at, p.n); },
            [&](Index at, LaneMask<T> live) {
                softmax_lanes(in + at, out + at, p.n, p.inner, live);
            });
    });
}

class Direct final : public Algorithm<Softmax> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const Softmax& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) { return plan_of<decltype(zero)>(p); });
    }
};

const Register<Softmax, Direct> registered;

}  // namespace
}  // namespace ai3
