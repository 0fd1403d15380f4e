// Runs of elements copied one after the other.

#include "ops/remap/op.hpp"

namespace ai3 {
namespace {

template <typename P>
class Direct final : public Algorithm<P> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const P& p, const WeightSet&) const override {
        return with_storage(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<RemapPlan<decltype(zero)>>(p.remap, p.dtype, p.threads);
        });
    }
};

const Register<Flip, Direct<Flip>> flip;
const Register<Take, Direct<Take>> take;
const Register<Slice, Direct<Slice>> slice;
const Register<Roll, Direct<Roll>> roll;
const Register<Pad, Direct<Pad>> pad;
const Register<Expand, Direct<Expand>> expand;

}  // namespace
}  // namespace ai3
