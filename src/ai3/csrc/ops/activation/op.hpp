// Activation functions: output = f(input) for each element, of any shape; see Activation. One
// operation each, but for relu, which has its own and may be written by the user.
#pragma once

#include "core/operation.hpp"
#include "kernels/activation.hpp"

namespace ai3 {

struct ActivationProblem {
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    ActivationProblem(Activation function, const std::vector<Spec>& inputs,
                      const WeightSet& weights, const Attributes& attributes, int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;

    DType dtype;
    Spec spec;
    Index size;
    Activation function;
    double parameter;
    int threads;
};

// Attributes: negative_slope of leaky_relu, alpha of elu, approximate ('none' or 'tanh') of gelu.
template <Activation F>
struct ActivationOf : ActivationProblem {
    static constexpr std::string_view op = name_of(F);

    ActivationOf(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
        : ActivationProblem(F, inputs, weights, attributes, threads) {}

    static std::string_view choose(const ActivationOf&) { return "direct"; }
};

// A Member<ActivationOf<F>> for each of the operations.
template <template <typename> typename Member>
struct ForEachActivation {
    Member<ActivationOf<Activation::relu6>> relu6;
    Member<ActivationOf<Activation::leaky_relu>> leaky_relu;
    Member<ActivationOf<Activation::silu>> silu;
    Member<ActivationOf<Activation::hardswish>> hardswish;
    Member<ActivationOf<Activation::hardsigmoid>> hardsigmoid;
    Member<ActivationOf<Activation::sigmoid>> sigmoid;
    Member<ActivationOf<Activation::tanh>> tanh;
    Member<ActivationOf<Activation::gelu>> gelu;
    Member<ActivationOf<Activation::elu>> elu;
};

}  // namespace ai3
