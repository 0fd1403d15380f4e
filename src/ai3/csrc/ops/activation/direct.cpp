// One pass over the elements. Right in place too.

#include "kernels/elementwise.hpp"
#include "ops/activation/op.hpp"

namespace ai3 {
namespace {

// The function is a constant of each loop.
template <Activation F, typename T>
std::unique_ptr<Plan> plan_of(const ActivationProblem& p) {
    return make_plan([size = p.size, parameter = Lane<T>(p.parameter), threads = p.threads](
                         const void* const* inputs, void* output, std::byte*) {
        map_elements(static_cast<const T*>(inputs[0]), static_cast<T*>(output), size, threads,
                     [&](Vec<T> x) { return activate<F>(parameter, x); });
    });
}

template <typename P>
class Direct;
template <Activation F>
class Direct<ActivationOf<F>> final : public Algorithm<ActivationOf<F>> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const ActivationOf<F>& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            if constexpr (F == Activation::gelu)
                if (p.function == Activation::gelu_tanh)
                    return plan_of<Activation::gelu_tanh, decltype(zero)>(p);
            return plan_of<F, decltype(zero)>(p);
        });
    }
};

template <typename P>
using RegisterDirect = Register<P, Direct<P>>;
const ForEachActivation<RegisterDirect> registered;

}  // namespace
}  // namespace ai3
