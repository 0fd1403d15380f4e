// Batch normalisation with given statistics, as in inference:
//
//   output = (input - running_mean[c]) / sqrt(running_var[c] + eps) * weight[c] + bias[c]
//
// Input (N, C, H, W) or (C, H, W), in any layout, which is the output's too. Weights in order:
// weight or None, bias or None, running_mean, running_var, each (C).
#pragma once

#include "core/operation.hpp"

namespace ai3 {

struct BatchNorm2d {
    static constexpr std::string_view op = "batchnorm2d";
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    // Attributes: eps.
    BatchNorm2d(const std::vector<Spec>& inputs, const WeightSet& weights,
                const Attributes& attributes, int threads);

    Spec output() const { return {dtype, shape, layout}; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;
    static std::string_view choose(const BatchNorm2d&) { return "direct"; }

    // output = input * scale + shift for the elements of a channel.
    struct Affine {
        double scale, shift;
    };
    Affine affine(const WeightSet& weights, Index channel) const;

    DType dtype;
    Shape shape;
    Layout layout;
    Index N, C, plane;
    double eps;
    int threads;

  protected:
    // Of an input that has one channel dimension, number `channel`, in the name of `op`.
    BatchNorm2d(std::string_view op, std::size_t channel, const std::vector<Spec>& inputs,
                const WeightSet& weights, const Attributes& attributes, int threads);
};

// The same of an input (N, C, *).
struct BatchNorm : BatchNorm2d {
    static constexpr std::string_view op = "batch_norm";
    BatchNorm(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes, int threads);
    static std::string_view choose(const BatchNorm&) { return "direct"; }
};

}  // namespace ai3
