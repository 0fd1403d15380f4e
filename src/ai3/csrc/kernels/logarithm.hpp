// log and log1p of vectors, with their usual values at NaN, the infinities, zeros and below.
// Polynomials are minimax fits (Remez); ranges are reduced as in Muller, "Elementary Functions",
// chapter 11. Largest errors, in units of the last place of the correctly rounded result:
//
//            log   log1p
//   float    1.0     1.6
//   double   1.0     1.6
#pragma once

#include <type_traits>

#include "kernels/elementary.hpp"

namespace ai3 {

namespace detail {

// (ln((1 + s) / (1 - s)) - 2 s) / s^3 as a function of s^2, for |s| <= 3 - 2 sqrt(2).
template <typename T>
constexpr std::array log_tail{
    0.6666666666666734893,  0.39999999999411098182, 0.28571428743262019622, 0.22222198476033742839,
    0.18183569737801832706, 0.15313903288289372785, 0.14797507402815287871};
template <>
inline constexpr std::array log_tail<float>{0.666667767255f, 0.399774947244f, 0.29873093132f};

// x = 2^n m with an integer n and sqrt(1/2) <= m < sqrt(2), for x > 0, which may be `subnormal`.
template <typename T>
struct Split {
    Vec<T> n, m;
};

template <typename T, bool subnormal = true>
inline Split<T> split(Vec<T> x) {
    using E = Elementary<T>;
    typedef std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> Word;
    typedef Word Words __attribute__((vector_size(AI3_VECTOR_BYTES)));
    constexpr T root = T(0.70710678118654752440), bias = T(E::bias);
    // Such numbers are scaled up first.
    const auto low = x < std::numeric_limits<T>::min();
    if constexpr (subnormal) x = low ? x * T(Word(1) << (E::mantissa + 1)) : x;
    const Words bits = (Words)x, from_root = bits - (Words)broadcast(root);
    const VecIndex<T> n = (VecIndex<T>)((from_root + (Words)broadcast(T(1))) >> E::mantissa);
    const Vec<T> m = (Vec<T>)(bits - ((Words)(n - E::bias) << E::mantissa));
    const Vec<T> shifted = (Vec<T>)(n + (VecIndex<T>)broadcast(E::round)) - E::round;
    if constexpr (!subnormal) return {shifted - bias, m};
    return {shifted - (low ? broadcast(bias + T(E::mantissa + 1)) : broadcast(bias)), m};
}

// y where x > 0, else the logarithm of zero, or NaN.
template <typename T>
inline Vec<T> where_positive(Vec<T> x, Vec<T> y) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    const Vec<T> other =
        x == T(0) ? broadcast(-inf) : broadcast(std::numeric_limits<T>::quiet_NaN());
    return x > T(0) ? (x == inf ? x : y) : other;
}

// n ln 2 + ln(1 + f).
template <typename T>
inline Vec<T> log_of_parts(Vec<T> n, Vec<T> f) {
    using E = Elementary<T>;
    const Vec<T> s = f / (f + T(2)), z = s * s;
    const Vec<T> below = s * (f - z * polynomial<T>(log_tail<T>, z));
    return n * E::ln2_high + (f - (below - n * E::ln2_low));
}

}  // namespace detail

template <typename T>
inline Vec<T> log(Vec<T> x) {
    const auto [n, m] = detail::split<T>(x);
    return detail::where_positive<T>(x, detail::log_of_parts<T>(n, m - T(1)));
}

// ln(1 + x), exact also where that is small.
template <typename T>
inline Vec<T> log1p(Vec<T> x) {
    const Vec<T> u = x + T(1), v = u - T(1);
    const Vec<T> rest = (T(1) - (u - v)) + (x - v);
    const auto [n, m] = detail::split<T>(u);
    // 2^(1 - n), zero where it were subnormal, as the rest is by then.
    const Vec<T> scale = detail::power_of_two<T>(detail::integer<T>(T(1) - n));
    const Vec<T> y = detail::log_of_parts<T>(n, (m - T(1)) + rest * scale * T(0.5));
    return x == T(0) ? x : detail::where_positive<T>(u, y);
}

}  // namespace ai3
