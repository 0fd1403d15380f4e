// Functions of single numbers, applied to vectors while they are in registers.
#pragma once

#include <stdexcept>
#include <string>

#include "core/simd.hpp"

namespace ai3 {

enum class Activation : std::uint8_t { none, relu };

// Throws std::invalid_argument for a name that it does not know.
inline Activation activation_from(const std::string& name) {
    if (name == "none") return Activation::none;
    if (name == "relu") return Activation::relu;
    throw std::invalid_argument("activation must be 'none' or 'relu', not '" + name + "'");
}

template <typename T>
Vec<T> activate(Activation activation, T, Vec<T> v) {
    return activation == Activation::none ? v : larger<T>(v, Vec<T>{});
}

inline double activate(Activation activation, double, double x) {
    return activation == Activation::relu && x < 0 ? 0 : x;
}

}  // namespace ai3
