// One pass over the elements. Right in place too.

#include "ops/relu/elementwise.hpp"
#include "ops/relu/op.hpp"

namespace ai3 {
namespace {

class Direct final : public Algorithm<Relu> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Relu& p, const WeightSet&) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return make_plan([size = p.size, threads = p.threads](const void* const* inputs,
                                                                  void* output, std::byte*) {
                const T* in = static_cast<const T*>(inputs[0]);
                T* out = static_cast<T*>(output);
                const bool past_cache = written_past_cache(size, size, in, out);
                parallel_ranges(threads, size, elementwise_grain, [&](Index begin, Index end) {
                    compute_elements(out, begin, end, past_cache, [&](auto at) {
                        const Vec<T> x = at(in);
                        return x < T(0) ? Vec<T>{} : x;
                    });
                });
            });
        });
    }
};

const Register<Relu, Direct> registered;

}  // namespace
}  // namespace ai3
