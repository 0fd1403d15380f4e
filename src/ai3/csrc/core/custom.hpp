// How the functions that a user fills in under src/ai3/custom become algorithms named "custom".
#pragma once

#include <concepts>

#include "core/operation.hpp"

namespace ai3 {

// `Call` is (T zero, problem, inputs, weights, output); it is invocable for those types T that the
// user's function is written for. A function that is still deleted registers nothing.
template <typename P, typename Call>
class Custom final : public Algorithm<P> {
    template <typename T>
    static constexpr bool written_for =
        std::invocable<Call, T, const P&, const void* const*, const WeightSet&, void*>;

  public:
    static constexpr bool written = written_for<float> || written_for<double>;

    explicit Custom(Call call) : call_(call) {}

    std::string_view name() const override { return "custom"; }
    bool built_in() const override { return false; }

    std::string refusal(const P& problem) const override {
        if constexpr (requires { problem.dense(); })
            if (!problem.dense()) return "the custom function is written for dense arrays";
        if (is_real(problem.dtype) &&
            (problem.dtype == DType::f32 ? written_for<float> : written_for<double>))
            return {};
        return "the custom function is not written for " + std::string(name_of(problem.dtype));
    }

    std::unique_ptr<Plan> plan(const P& problem, const WeightSet& weights) const override {
        return make_plan(
            [problem, &weights, call = call_](const void* const* inputs, void* output, std::byte*) {
                with_type(problem.dtype, [&](auto zero) {
                    if constexpr (written_for<decltype(zero)>)
                        call(zero, problem, inputs, weights, output);
                });
            });
    }

  private:
    Call call_;
};

template <typename P, bool is_default>
struct RegisterCustom {
    template <typename Call>
    explicit RegisterCustom(Call call) {
        static_assert(!is_default || Custom<P, Call>::written,
                      "the custom implementation is made the default but not filled in");
        if constexpr (Custom<P, Call>::written)
            Registry<P>::instance().add(std::make_unique<Custom<P, Call>>(call));
    }
};

template <typename P>
bool prefers_custom(const P& problem, bool is_default) {
    return is_default && Registry<P>::instance().at("custom").refusal(problem).empty();
}

}  // namespace ai3
