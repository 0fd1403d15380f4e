// How the functions that a user fills in under src/ai3/custom, or in a file that is loaded, become
// algorithms named "custom".
#pragma once

#include <limits>
#include <utility>

#include "core/operation.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

// What a file may say of its function beside defining it, by an overload for the operation's
// problem or a specialization for its type.
namespace custom {

// Why it cannot do a problem, as a clause; empty where it can.
template <typename P>
std::string refusal(const P&) {
    return {};
}
// Estimated cycles: "default" stands for it where that is less than all others estimate.
template <typename P>
double cost(const P&) {
    return std::numeric_limits<double>::infinity();
}
// Memory that it needs: its last parameter is then std::byte* workspace, of whatever content.
template <typename P>
std::size_t workspace_bytes(const P&) {
    return 0;
}
// Whether it reads and writes images in whatever layout the problem says, beside dense ones.
template <typename P>
constexpr bool takes_layouts = false;

}  // namespace custom

// `Own` has what its file says and `run(problem, inputs ..., weights ..., output)`, with a
// workspace behind it if need be, for those types that the user's function is written for. A
// function that is still deleted registers nothing.
template <typename P, typename Own, std::size_t Inputs, std::size_t Weights>
class Custom final : public Algorithm<P> {
    template <typename T, typename... More>
    static constexpr bool takes() {
        return []<std::size_t... I>(std::index_sequence<I...>) {
            return requires(const P& p, const T* read, T* output, More... more) {
                Own::run(p, (void(I), read)..., output, more...);
            };
        }(std::make_index_sequence<Inputs + Weights>{});
    }
    template <typename T>
    static constexpr bool needs_memory = takes<T, std::byte*>();
    template <typename T>
    static constexpr bool written_for = takes<T>() || needs_memory<T>;

  public:
    static constexpr bool written = written_for<float> || written_for<double>;

    std::string_view name() const override { return "custom"; }
    bool built_in() const override { return false; }
    bool preferred() const override { return Own::is_default; }

    std::string refusal(const P& problem) const override {
        if (!custom::takes_layouts<P> && !dense(problem)) return "it takes dense arrays";
        const DType dtype = problem.output().dtype;
        if ((dtype == DType::f32 && written_for<float>) ||
            (dtype == DType::f64 && written_for<double>))
            return Own::refusal(problem);
        return "the custom function is not written for " + std::string(name_of(dtype));
    }
    std::size_t workspace_bytes(const P& problem) const override {
        return Own::workspace_bytes(problem);
    }
    double cost(const P& problem) const override { return Own::cost(problem); }

    std::unique_ptr<Plan> plan(const P& problem, const WeightSet& weights) const override {
        return make_plan(
            [problem, &weights](const void* const* inputs, void* output, std::byte* workspace) {
                with_type(problem.output().dtype, [&](auto zero) {
                    using T = decltype(zero);
                    if constexpr (written_for<T>)
                        [&]<std::size_t... I, std::size_t... J>(std::index_sequence<I...>,
                                                                std::index_sequence<J...>) {
                            T* out = static_cast<T*>(output);
                            const auto run = [&](auto... more) {
                                Own::run(problem, input<T>(problem, inputs, I)...,
                                         weights.data<T>(J)..., out, more...);
                            };
                            if constexpr (needs_memory<T>)
                                run(workspace);
                            else
                                run();
                            if constexpr (requires { problem.epilogue(inputs, out); })
                                apply(problem.epilogue(inputs, out), out, problem.output().held(),
                                      problem.threads);
                        }(std::make_index_sequence<Inputs>{}, std::make_index_sequence<Weights>{});
                });
            });
    }

  private:
    static bool dense(const P& problem) {
        if constexpr (requires { problem.dense(); })
            return problem.dense();
        else
            return problem.output().layout == Layout::dense;
    }

    // Null for one that is not given.
    template <typename T>
    static const T* input(const P& problem, const void* const* inputs, std::size_t i) {
        if constexpr (requires { problem.given; })
            if (i >= problem.given) return nullptr;
        return static_cast<const T*>(inputs[i]);
    }
};

template <typename P, typename Own, std::size_t Inputs, std::size_t Weights>
struct RegisterCustom {
    RegisterCustom() {
        using Registered = Custom<P, Own, Inputs, Weights>;
        static_assert(!Own::is_default || Registered::written,
                      "the custom implementation is made the default but not filled in");
        if constexpr (Registered::written)
            Registry<P>::instance().add(std::make_unique<Registered>());
    }
};

}  // namespace ai3

// Registers what custom/<name>.hpp has for the operation <name> of problems of type P, which takes
// up to so many inputs and weights; one that is absent is null.
#define AI3_REGISTER_CUSTOM(name, P, inputs, weights)                                         \
    struct Own_##name {                                                                       \
        static constexpr bool is_default = custom::name##_is_default;                         \
        template <typename... Given>                                                          \
        static auto run(const Given&... given) -> decltype(custom::name(given...)) {          \
            custom::name(given...);                                                           \
        }                                                                                     \
        static std::string refusal(const P& p) { return custom::refusal(p); }                 \
        static double cost(const P& p) { return custom::cost(p); }                            \
        static std::size_t workspace_bytes(const P& p) { return custom::workspace_bytes(p); } \
    };                                                                                        \
    const RegisterCustom<P, Own_##name, inputs, weights> custom_##name
