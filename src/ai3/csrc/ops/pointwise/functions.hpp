// The functions that pointwise programs are made of: one row each.
//
//   same     operands are promoted to one dtype, which the result has
//   real     the same, and to float32 where that is no floating-point type
//   compare  operands are promoted to one dtype; the result is bool
//   logic    operands become bool; the result is bool
//   bits     operands are promoted to one integer type, or bool, which the result has
//   test     one operand as it is; the result is bool
//   select   the first operand becomes bool, the others are promoted to one dtype
//
// A formula is of x, y and z, of type T: float, double, int64_t for every integer type, uint8_t for
// bool, which is 0 or 1. What has faster vectors is named in vectors.hpp as well.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "kernels/activation.hpp"

namespace ai3 {

// The largest power of a whole exponent by squaring; a negative exponent gives 0 but for 1 and -1.
constexpr std::int64_t integer_power(std::int64_t base, std::int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    std::uint64_t result = 1, factor = std::uint64_t(base);
    for (; exponent > 0; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return std::int64_t(result);
}

// The quotient rounded down, and what it leaves, which has the divisor's sign. An integer divided
// by zero gives 0.
template <typename T>
inline T quotient_down(T x, T y) {
    if constexpr (std::is_integral_v<T>) {
        if (y == 0) return 0;
        if (y == -1) return T(0 - std::uint64_t(x));
        return T(x / y - (x % y != 0 && (x < 0) != (y < 0)));
    } else {
        if (y == 0) return x / y;
        T rest = std::fmod(x, y), quotient = (x - rest) / y;
        if (rest != 0 && (y < 0) != (rest < 0)) quotient -= 1;
        if (quotient == 0) return std::copysign(T(0), x / y);
        const T down = std::floor(quotient);
        return quotient - down > T(0.5) ? down + 1 : down;
    }
}
template <typename T>
inline T remainder_down(T x, T y) {
    if constexpr (std::is_integral_v<T>) {
        if (y == 0 || y == -1) return 0;
        const T rest = x % y;
        return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    } else {
        const T rest = std::fmod(x, y);
        return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    }
}
template <typename T>
inline T remainder_to_zero(T x, T y) {
    if constexpr (std::is_integral_v<T>)
        return y == 0 || y == -1 ? 0 : x % y;
    else
        return std::fmod(x, y);
}
template <typename T>
inline T power(T x, T y) {
    if constexpr (std::is_integral_v<T>)
        return integer_power(x, y);
    else
        return std::pow(x, y);
}
// What integers are already.
#define AI3_ROUNDING(name, function)         \
    template <typename T>                    \
    inline T name(T x) {                     \
        if constexpr (std::is_integral_v<T>) \
            return x;                        \
        else                                 \
            return function(x);              \
    }
AI3_ROUNDING(rounded_down, std::floor)
AI3_ROUNDING(rounded_up, std::ceil)
AI3_ROUNDING(rounded_to_even, std::nearbyint)
AI3_ROUNDING(rounded_to_zero, std::trunc)
#undef AI3_ROUNDING
// Integers wrap around.
template <typename T>
using Wrapping = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;
template <typename T>
inline T magnitude_of(T x) {
    if constexpr (std::is_integral_v<T>)
        return x < 0 ? T(0 - std::uint64_t(x)) : x;
    else
        return std::fabs(x);
}
template <typename T>
inline T shifted(T x, T by) {
    return by < 0 || by > 63 ? 0 : T(std::uint64_t(x) << by);
}
template <typename T>
inline T shifted_down(T x, T by) {
    return by < 0 || by > 63 ? (x < 0 ? T(-1) : T(0)) : T(x >> by);
}

// ROW(name, operands, kind, formula)
#define AI3_POINTWISE_FUNCTIONS(ROW)                                              \
    ROW(abs, 1, same, magnitude_of<T>(x))                                         \
    ROW(neg, 1, same, T(-Wrapping<T>(x)))                                         \
    ROW(sign, 1, same, T(T(x > 0) - T(x < 0)))                                    \
    ROW(square, 1, same, T(Wrapping<T>(x) * Wrapping<T>(x)))                      \
    ROW(add, 2, same, T(Wrapping<T>(x) + Wrapping<T>(y)))                         \
    ROW(sub, 2, same, T(Wrapping<T>(x) - Wrapping<T>(y)))                         \
    ROW(mul, 2, same, T(Wrapping<T>(x) * Wrapping<T>(y)))                         \
    ROW(maximum, 2, same, x > y || x != x ? x : y)                                \
    ROW(minimum, 2, same, x < y || x != x ? x : y)                                \
    ROW(floor_divide, 2, same, quotient_down<T>(x, y))                            \
    ROW(remainder, 2, same, remainder_down<T>(x, y))                              \
    ROW(fmod, 2, same, remainder_to_zero<T>(x, y))                                \
    ROW(pow, 2, same, power<T>(x, y))                                             \
    ROW(floor, 1, same, rounded_down<T>(x))                                       \
    ROW(ceil, 1, same, rounded_up<T>(x))                                          \
    ROW(round, 1, same, rounded_to_even<T>(x))                                    \
    ROW(trunc, 1, same, rounded_to_zero<T>(x))                                    \
    ROW(relu, 1, same, x < 0 ? T(0) : x)                                          \
    ROW(div, 2, real, x / y)                                                      \
    ROW(reciprocal, 1, real, T(1) / x)                                            \
    ROW(sqrt, 1, real, std::sqrt(x))                                              \
    ROW(rsqrt, 1, real, T(1) / std::sqrt(x))                                      \
    ROW(exp, 1, real, std::exp(x))                                                \
    ROW(exp2, 1, real, std::exp2(x))                                              \
    ROW(expm1, 1, real, std::expm1(x))                                            \
    ROW(log, 1, real, std::log(x))                                                \
    ROW(log2, 1, real, std::log2(x))                                              \
    ROW(log10, 1, real, std::log10(x))                                            \
    ROW(log1p, 1, real, std::log1p(x))                                            \
    ROW(sin, 1, real, std::sin(x))                                                \
    ROW(cos, 1, real, std::cos(x))                                                \
    ROW(tan, 1, real, std::tan(x))                                                \
    ROW(asin, 1, real, std::asin(x))                                              \
    ROW(acos, 1, real, std::acos(x))                                              \
    ROW(atan, 1, real, std::atan(x))                                              \
    ROW(atan2, 2, real, std::atan2(x, y))                                         \
    ROW(sinh, 1, real, std::sinh(x))                                              \
    ROW(cosh, 1, real, std::cosh(x))                                              \
    ROW(asinh, 1, real, std::asinh(x))                                            \
    ROW(acosh, 1, real, std::acosh(x))                                            \
    ROW(atanh, 1, real, std::atanh(x))                                            \
    ROW(erf, 1, real, std::erf(x))                                                \
    ROW(erfc, 1, real, std::erfc(x))                                              \
    ROW(relu6, 1, real, T(activate(Activation::relu6, 1, double(x))))             \
    ROW(leaky_relu, 2, real, x < 0 ? x * y : x)                                   \
    ROW(elu, 2, real, x < 0 ? y * std::expm1(x) : x)                              \
    ROW(silu, 1, real, T(activate(Activation::silu, 1, double(x))))               \
    ROW(hardswish, 1, real, T(activate(Activation::hardswish, 1, double(x))))     \
    ROW(hardsigmoid, 1, real, T(activate(Activation::hardsigmoid, 1, double(x)))) \
    ROW(sigmoid, 1, real, T(activate(Activation::sigmoid, 1, double(x))))         \
    ROW(tanh, 1, real, std::tanh(x))                                              \
    ROW(gelu, 1, real, T(activate(Activation::gelu, 1, double(x))))               \
    ROW(gelu_tanh, 1, real, T(activate(Activation::gelu_tanh, 1, double(x))))     \
    ROW(eq, 2, compare, x == y)                                                   \
    ROW(ne, 2, compare, x != y)                                                   \
    ROW(lt, 2, compare, x < y)                                                    \
    ROW(le, 2, compare, x <= y)                                                   \
    ROW(gt, 2, compare, x > y)                                                    \
    ROW(ge, 2, compare, x >= y)                                                   \
    ROW(logical_and, 2, logic, x& y)                                              \
    ROW(logical_or, 2, logic, x | y)                                              \
    ROW(logical_xor, 2, logic, x ^ y)                                             \
    ROW(logical_not, 1, logic, x ^ 1)                                             \
    ROW(bitwise_and, 2, bits, T(x& y))                                            \
    ROW(bitwise_or, 2, bits, T(x | y))                                            \
    ROW(bitwise_xor, 2, bits, T(x ^ y))                                           \
    ROW(bitwise_not, 1, bits, T(sizeof(T) == 1 ? x ^ 1 : ~x))                     \
    ROW(bitwise_left_shift, 2, bits, shifted<T>(x, y))                            \
    ROW(bitwise_right_shift, 2, bits, shifted_down<T>(x, y))                      \
    ROW(isnan, 1, test, x != x)                                                   \
    ROW(isinf, 1, test, x - x != x - x && x == x)                                 \
    ROW(isfinite, 1, test, x - x == x - x)                                        \
    ROW(where, 3, select, x ? y : z)

enum class Kind : std::uint8_t { same, real, compare, logic, bits, test, select };

#define AI3_ROW(name, operands, kind, formula) name##_,
enum class Function : std::uint8_t { AI3_POINTWISE_FUNCTIONS(AI3_ROW) };
#undef AI3_ROW

struct FunctionRow {
    std::string_view name;
    int operands;
    Kind kind;
};

#define AI3_ROW(name, operands, kind, formula) FunctionRow{#name, operands, Kind::kind},
constexpr std::array function_rows{AI3_POINTWISE_FUNCTIONS(AI3_ROW)};
#undef AI3_ROW

// The formula of one function; where it selects, x is the condition.
template <Function F, typename T>
inline auto formula(
    std::conditional_t<function_rows[std::size_t(F)].kind == Kind::select, std::uint8_t, T> x,
    [[maybe_unused]] T y, [[maybe_unused]] T z) {
#define AI3_ROW(name, operands, kind, value) \
    if constexpr (F == Function::name##_) return value;
    AI3_POINTWISE_FUNCTIONS(AI3_ROW)
#undef AI3_ROW
}

}  // namespace ai3
