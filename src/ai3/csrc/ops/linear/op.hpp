// Fully connected layer: output[m, oc] = bias[oc] + sum over ic of weight[oc, ic] * input[m, ic].
// Input (*, IC) of one dimension or more, weight (OC, IC), bias (OC) or none, output (*, OC). A
// second input is a residual: it is added to the output, whose shape it has; then comes the
// activation.
#pragma once

#include "core/operation.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

struct Linear {
    static constexpr std::string_view op = "linear";
    static constexpr bool takes_bfloat16 = true;
    static constexpr std::size_t factors = 1;

    // Attributes: activation, activation_parameter, output_dtype.
    Linear(const std::vector<Spec>& inputs, const WeightSet& weights, const Attributes& attributes,
           int threads);

    Spec output() const { return {output_dtype, shape}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const Linear& problem);

    // The input's and the output's: of an input in bfloat16 it may be float32, and so may the
    // weights.
    DType dtype, output_dtype;
    bool has_bias, has_residual;
    Activation activation;
    double activation_parameter;
    Shape shape;
    // M is the product of the input's dimensions but the last.
    Index M, IC, OC;
    int threads;

    template <typename T>
    Epilogue<T> epilogue(const void* const* inputs, const T* output) const {
        return {activation, Lane<T>(activation_parameter),
                has_residual ? static_cast<const T*>(inputs[1]) : nullptr, output};
    }
};

}  // namespace ai3
