// The sum over the planes of a channel: in vectors within a plane, in double precision over planes.

#include "core/simd.hpp"
#include "ops/conv2d_grad_bias/op.hpp"

namespace ai3 {
namespace {

// In vectors of which each adds up no more than some thousand numbers.
template <typename T>
double plane_sum(const T* from, Index count) {
    constexpr Index W = lanes<T>, V = 4, block = 1024 * V * W;
    double total = 0;
    for (Index begin = 0; begin < count; begin += block) {
        const Index end = std::min(begin + block, count);
        Vec<T> acc[V] = {};
        Index i = begin;
        for (; i + V * W <= end; i += V * W)
#pragma GCC unroll 4
            for (Index v = 0; v < V; ++v) acc[v] += load(from + i + v * W);
        for (; i < end; i += W) acc[0] += LaneMask<T>::first(std::min(W, end - i)).load(from + i);
        total += double(sum<T>((acc[0] + acc[1]) + (acc[2] + acc[3])));
    }
    return total;
}

class Direct final : public Algorithm<Conv2dGradBias> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Conv2dGradBias& p, const WeightSet&) const override {
        return make_plan([p](const void* const* inputs, void* output, std::byte*) {
            with_type(p.dtype, [&](auto zero) {
                using T = decltype(zero);
                const T* grad = static_cast<const T*>(inputs[0]);
                const Index grain = (1 << 15) / std::max<Index>(1, p.N * p.P) + 1;
                parallel_ranges(p.threads, p.OC, grain, [&](Index begin, Index end) {
                    for (Index oc = begin; oc < end; ++oc) {
                        double total = 0;
                        for (Index n = 0; n < p.N; ++n)
                            total += plane_sum(grad + (n * p.OC + oc) * p.P, p.P);
                        static_cast<T*>(output)[oc] = T(total);
                    }
                });
            });
        });
    }
};

const Register<Conv2dGradBias, Direct> registered;

}  // namespace
}  // namespace ai3
