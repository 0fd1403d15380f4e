// The activation functions, of vectors in a kernel's registers and of numbers in references.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/elementary.hpp"

namespace ai3 {

// Called as torch.nn.functional calls them, gelu of approximate='tanh' apart. leaky_relu has the
// parameter negative_slope, elu alpha; the others have none.
enum class Activation : std::uint8_t {
    none,
    relu,
    relu6,
    leaky_relu,
    silu,
    hardswish,
    hardsigmoid,
    sigmoid,
    tanh,
    gelu,
    gelu_tanh,
    elu
};

constexpr std::array<std::string_view, 12> activation_names{
    "none",        "relu",    "relu6", "leaky_relu", "silu",      "hardswish",
    "hardsigmoid", "sigmoid", "tanh",  "gelu",       "gelu_tanh", "elu"};

constexpr std::string_view name_of(Activation activation) {
    return activation_names[std::size_t(activation)];
}

// Throws std::invalid_argument, with the names there are, for any other.
inline Activation activation_from(const std::string& name) {
    std::string valid;
    for (std::size_t i = 0; i < activation_names.size(); ++i) {
        if (activation_names[i] == name) return Activation(i);
        valid += (i ? ", " : "") + std::string(activation_names[i]);
    }
    throw std::invalid_argument("activation must be one of " + valid + ", not '" + name + "'");
}

// What the parameter is where none is given.
constexpr double default_parameter(Activation activation) {
    return activation == Activation::leaky_relu ? 0.01 : 1;
}

template <Activation F, typename T>
inline Vec<T> activate(T parameter, Vec<T> x) {
    const auto between = [](Vec<T> v, T most) { return at_least<T>(at_most<T>(v, most), T(0)); };
    const auto rise = [=](Vec<T> v) { return between(v * T(1.0 / 6) + T(0.5), T(1)); };
    switch (F) {
        case Activation::none:
            return x;
        case Activation::relu:
            return at_least<T>(x, T(0));
        case Activation::relu6:
            return between(x, T(6));
        case Activation::leaky_relu:
            return x < T(0) ? x * parameter : x;
        case Activation::silu:
            return x / (T(1) + exp<T>(-x));
        case Activation::hardswish:
            return x * rise(x);
        case Activation::hardsigmoid:
            return rise(x);
        case Activation::sigmoid:
            return T(1) / (T(1) + exp<T>(-x));
        case Activation::tanh:
            return tanh<T>(x);
        case Activation::gelu:
            return gelu<T>(x);
        case Activation::gelu_tanh: {
            const Vec<T> inner = x * T(0.79788456080286535588) * (T(1) + T(0.044715) * x * x);
            return x * T(0.5) * (T(1) + tanh<T>(inner));
        }
        case Activation::elu:
            return x < T(0) ? parameter * expm1<T>(x) : x;
    }
    return x;
}

// Those of many instructions, once for all kernels that end with them.
template <typename T>
Vec<T> activate_smoothly(Activation activation, T parameter, Vec<T> x);

// Activates `n` vectors, `stride` elements apart, in place, each after its vector of `addend`,
// which lies as they do, or is null.
template <typename T>
void activate_vectors(Activation activation, T parameter, T* x, Index stride, Index n,
                      const T* addend);

template <typename T>
inline Vec<T> activate(Activation activation, T parameter, Vec<T> x) {
    switch (activation) {
        case Activation::none:
            return x;
        case Activation::relu:
            return activate<Activation::relu>(parameter, x);
        case Activation::relu6:
            return activate<Activation::relu6>(parameter, x);
        case Activation::leaky_relu:
            return activate<Activation::leaky_relu>(parameter, x);
        case Activation::hardswish:
            return activate<Activation::hardswish>(parameter, x);
        case Activation::hardsigmoid:
            return activate<Activation::hardsigmoid>(parameter, x);
        default:
            return activate_smoothly(activation, parameter, x);
    }
}

inline double activate(Activation activation, double parameter, double x) {
    const auto ramp = [](double v) { return v < 0 ? 0 : v > 6 ? 6 : v; };
    switch (activation) {
        case Activation::none:
            return x;
        case Activation::relu:
            return x < 0 ? 0 : x;
        case Activation::relu6:
            return ramp(x);
        case Activation::leaky_relu:
            return x < 0 ? x * parameter : x;
        case Activation::silu:
            return x / (1 + std::exp(-x));
        case Activation::hardswish:
            return x * (ramp(x + 3) / 6);
        case Activation::hardsigmoid:
            return ramp(x + 3) / 6;
        case Activation::sigmoid:
            return 1 / (1 + std::exp(-x));
        case Activation::tanh:
            return std::tanh(x);
        case Activation::gelu:
            return x * 0.5 * (1 + std::erf(x * 0.70710678118654752440));
        case Activation::gelu_tanh:
            return x * 0.5 * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
        case Activation::elu:
            return x < 0 ? parameter * std::expm1(x) : x;
    }
    return x;
}

}  // namespace ai3
