// The functions of pointwise programs that have vectors.
#pragma once

#include "kernels/power.hpp"
#include "kernels/sine.hpp"
#include "ops/pointwise/functions.hpp"

namespace ai3 {

// Those of so few instructions that writing their operands to memory and reading them again would
// take longer.
constexpr bool is_cheap(Function function) {
    switch (function) {
        case Function::abs_:
        case Function::neg_:
        case Function::sign_:
        case Function::square_:
        case Function::add_:
        case Function::sub_:
        case Function::mul_:
        case Function::maximum_:
        case Function::minimum_:
        case Function::div_:
        case Function::reciprocal_:
        case Function::relu_:
        case Function::relu6_:
        case Function::leaky_relu_:
        case Function::hardswish_:
        case Function::hardsigmoid_:
            return true;
        default:
            return false;
    }
}

// Those that do better than the compiler with the loop of a formula. Vectors of 16 bytes take
// longer than the C library for what is computed in double or with fused multiplication.
template <Function F, typename T>
constexpr bool has_vectors() {
    constexpr bool wide = AI3_VECTOR_BYTES > 16;
    switch (F) {
        case Function::exp_:
        case Function::expm1_:
        case Function::log_:
        case Function::log1p_:
        case Function::tanh_:
        case Function::sigmoid_:
        case Function::silu_:
        case Function::gelu_:
        case Function::gelu_tanh_:
        case Function::elu_:
        case Function::relu6_:
        case Function::hardswish_:
        case Function::hardsigmoid_:
            return std::is_floating_point_v<T>;
        case Function::pow_:
            return wide && std::is_floating_point_v<T>;
        case Function::sin_:
        case Function::cos_:
            return wide ? std::is_floating_point_v<T> : std::is_same_v<T, double>;
        case Function::erf_:
            return std::is_same_v<T, double>;
        default:
            return false;
    }
}

// Where either is NaN, or both are zeros, x86's instructions give the second operand.
template <typename T>
inline Vec<T> maximum(Vec<T> x, Vec<T> y) {
#if defined(__AVX2__)
    return larger<T>(x, y);
#else
    return (x > y) | (x != x) ? x : y;
#endif
}
template <typename T>
inline Vec<T> minimum(Vec<T> x, Vec<T> y) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        const __m512 a = (__m512)x;
        return (Vec<T>)_mm512_mask_min_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, (__m512)y);
    } else {
        const __m512d a = (__m512d)x;
        return (Vec<T>)_mm512_mask_min_pd(a, _mm512_cmp_pd_mask(a, a, _CMP_ORD_Q), a, (__m512d)y);
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) {
        const __m256 a = (__m256)x, least = _mm256_min_ps(a, (__m256)y);
        return (Vec<T>)_mm256_blendv_ps(least, a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    } else {
        const __m256d a = (__m256d)x, least = _mm256_min_pd(a, (__m256d)y);
        return (Vec<T>)_mm256_blendv_pd(least, a, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
    }
#else
    return (x < y) | (x != x) ? x : y;
#endif
}

template <Function F, typename T>
inline Vec<T> vectors(Vec<T> x, Vec<T> y) {
    switch (F) {
        case Function::abs_:
            return magnitude<T>(x);
        case Function::neg_:
            return -x;
        case Function::sign_:
            return (x > T(0) ? broadcast(T(1)) : Vec<T>{}) -
                   (x < T(0) ? broadcast(T(1)) : Vec<T>{});
        case Function::square_:
            return x * x;
        case Function::add_:
            return x + y;
        case Function::sub_:
            return x - y;
        case Function::mul_:
            return x * y;
        case Function::maximum_:
            return maximum<T>(x, y);
        case Function::minimum_:
            return minimum<T>(x, y);
        case Function::div_:
            return x / y;
        case Function::reciprocal_:
            return T(1) / x;
        case Function::relu_:
            return x < T(0) ? Vec<T>{} : x;
        case Function::relu6_:
            return activate<Activation::relu6>(T(1), x);
        case Function::leaky_relu_:
            return x < T(0) ? x * y : x;
        case Function::hardswish_:
            return activate<Activation::hardswish>(T(1), x);
        case Function::hardsigmoid_:
            return activate<Activation::hardsigmoid>(T(1), x);
        case Function::exp_:
            return exp<T>(x);
        case Function::expm1_:
            return expm1<T>(x);
        case Function::tanh_:
            return tanh<T>(x);
        case Function::sigmoid_:
            return activate<Activation::sigmoid>(T(1), x);
        case Function::silu_:
            return activate<Activation::silu>(T(1), x);
        case Function::gelu_:
            return gelu<T>(x);
        case Function::gelu_tanh_:
            return activate<Activation::gelu_tanh>(T(1), x);
        case Function::elu_:
            return x < T(0) ? y * expm1<T>(x) : x;
        case Function::log_:
            return log<T>(x);
        case Function::log1p_:
            return log1p<T>(x);
        case Function::pow_:
            return pow<T>(x, y);
        case Function::sin_:
            return sin<T>(x);
        case Function::cos_:
            return cos<T>(x);
        case Function::erf_:
            if constexpr (std::is_same_v<T, double>) return erf(x);
            return x;
        default:
            return x;
    }
}

}  // namespace ai3
