// One pass over the elements. Right in place too.

#include "kernels/elementary.hpp"
#include "kernels/elementwise.hpp"
#include "ops/relu/op.hpp"

namespace ai3 {
namespace {

class Direct final : public Algorithm<Relu> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const Relu& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return make_plan([size = p.size, threads = p.threads](const void* const* inputs,
                                                                  void* output, std::byte*) {
                map_elements(static_cast<const T*>(inputs[0]), static_cast<T*>(output), size,
                             threads, [](Vec<T> x) { return at_least<Lane<T>>(x, 0); });
            });
        });
    }
};

const Register<Relu, Direct> registered;

}  // namespace
}  // namespace ai3
