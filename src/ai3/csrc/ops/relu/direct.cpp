// One pass over the elements, limited by memory. Right in place too.

#include "ops/relu/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 15;

template <typename T>
void rectify(const T* in, T* out, Index begin, Index end) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) out[i] = in[i] < 0 ? T(0) : in[i];
}

class Direct final : public Algorithm<Relu> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Relu& p, const WeightSet&) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return make_plan([size = p.size, threads = p.threads](const void* const* inputs,
                                                                  void* output, std::byte*) {
                parallel_ranges(threads, size, grain, [&](Index begin, Index end) {
                    rectify(static_cast<const T*>(inputs[0]), static_cast<T*>(output), begin, end);
                });
            });
        });
    }
};

const Register<Relu, Direct> registered;

}  // namespace
}  // namespace ai3
