// pow of vectors, with its usual values at NaN, the infinities, zeros and below: float in double,
// double with the logarithm and its product as sums of two numbers (Muller, "Elementary Functions",
// chapters 2 and 11). Polynomials are minimax fits (Remez). Largest errors, in units of the last
// place of the correctly rounded result: float 0.6, double 1.3.
#pragma once

#include <cmath>

#include "kernels/in_double.hpp"
#include "kernels/logarithm.hpp"

namespace ai3 {

namespace detail {

// (ln((1 + s) / (1 - s)) - 2 s) / s^3 as a function of s^2, to 44 bits, and without its first term,
// 2 / 3, and divided by s^2, to 71; for |s| <= 3 - 2 sqrt(2).
constexpr std::array short_log_tail{0.666666666758462734, 0.399999956046966231,
                                    0.285721111421212757, 0.2217609933064921, 0.195855251829568445};
constexpr std::array long_log_tail{
    0.39999999999999997013, 0.28571428571432928206, 0.22222222220347621758, 0.18181818547208605728,
    0.15384577361058137052, 0.13335587897131311607, 0.11688490460975649522, 0.11884001444872339297};

// x, or `least` where x is not more, or is NaN.
inline Vec<double> more_than(Vec<double> x, double least) {
    return x > least ? x : broadcast(least);
}

// x^y for x and y that are floats, the first positive and finite, to 30 bits where that is a float.
inline Vec<double> short_power(Vec<double> x, Vec<double> y) {
    using E = Elementary<double>;
    constexpr auto exp_tail = [] {
        const auto& floats = Elementary<float>::exp_tail;
        std::array<double, floats.size()> tail{};
        std::copy(floats.begin(), floats.end(), tail.begin());
        return tail;
    }();
    const auto [n, m] = split<double, false>(x);
    const Vec<double> f = m - 1.0, s = f / (f + 2.0), z = s * s;
    const Vec<double> log = f - s * (f - z * polynomial<double>(short_log_tail, z));
    const Vec<double> power = (n + log * 1.442695040888963407) * y;
    const Vec<double> within = at_most<double>(more_than(power, -200), 200);
    const Vec<double> whole = (within + E::round) - E::round;
    const Vec<double> r = (within - whole) * 0.69314718055994530942;
    const Vec<double> part = polynomial<double>(exp_tail, r) * (r * r) + r + 1.0;
    return part * power_of_two<double>(integer<double>(whole));
}

// A number as the sum of two, the second within the rounding of the first.
struct Sum {
    Vec<double> high, low;
};

inline Sum product(Vec<double> a, Vec<double> b) {
    const Vec<double> p = in_register(a * b);
#if defined(__AVX512F__)
    return {p, (Vec<double>)_mm512_fmsub_pd((__m512d)a, (__m512d)b, (__m512d)p)};
#elif defined(__AVX2__)
    return {p, (Vec<double>)_mm256_fmsub_pd((__m256d)a, (__m256d)b, (__m256d)p)};
#else
    Vec<double> low;
    for (int l = 0; l < lanes<double>; ++l) low[l] = std::fma(a[l], b[l], -p[l]);
    return {p, low};
#endif
}
// Where |a| >= |b|, or a is zero.
inline Sum sum(Vec<double> a, Vec<double> b) {
    const Vec<double> high = a + b;
    return {high, b - (high - a)};
}

// ln(x) to 64 bits, for positive finite x.
inline Sum long_log(Vec<double> x) {
    using E = Elementary<double>;
    const auto [n, m] = split<double>(x);
    // (m - 1) / (m + 1) is the sum of s and s_low.
    const Vec<double> f = m - 1.0, d = m + 1.0, d_low = m - (d - 1.0);
    const Vec<double> inverse = 1.0 / d, s = in_register(f * inverse);
    const auto [sd, sd_low] = product(s, d);
    const Vec<double> s_low = (((f - sd) - sd_low) - s * d_low) * inverse;
    // ln(m) = 2 s + s w, where w = s^2 g, and g = 2 / 3 + ...
    const auto [z, z_rest] = product(s, s);
    const Vec<double> z_low = z_rest + 2.0 * s * s_low;
    const auto [g, g_rest] =
        sum(broadcast(2.0 / 3), in_register(z * polynomial<double>(long_log_tail, z)));
    const Vec<double> g_low = g_rest + 0x1.5555555555555p-55;
    const auto [w, w_rest] = product(z, g);
    const Vec<double> w_low = w_rest + z * g_low + z_low * g;
    const auto [sw, sw_rest] = product(s, w);
    const auto [near, near_rest] = sum(2.0 * s, sw);
    const Vec<double> near_low = near_rest + (sw_rest + (s * w_low + (s_low * w + 2.0 * s_low)));
    const auto [high, rest] = sum(n * E::ln2_high, near);
    return {high, rest + (near_low + n * E::ln2_low)};
}

// x^y for positive finite x.
inline Vec<double> long_power(Vec<double> x, Vec<double> y) {
    using E = Elementary<double>;
    const Sum log = long_log(x);
    const auto [power, rest] = product(y, log.high);
    const auto usual = (power < E::exp_most) & (power > E::exp_least);
    auto [n, r] = reduced<double>(at_most<double>(more_than(power, E::exp_least), E::exp_most));
    r += usual ? rest + y * log.low : Vec<double>{};
    return scaled<double>(polynomial<double>(E::exp_tail, r) * (r * r) + r + 1.0, n);
}

}  // namespace detail

template <typename T>
inline Vec<T> pow(Vec<T> x, Vec<T> y) {
    constexpr T whole_from = T(std::uint64_t(1) << detail::Elementary<T>::mantissa);
    const Vec<T> inf = broadcast(std::numeric_limits<T>::infinity()), one = broadcast(T(1));
    const Vec<T> size = magnitude<T>(x), exponent = magnitude<T>(y);
    Vec<T> z;
    if constexpr (sizeof(T) == 4)
        z = in_double(detail::short_power, size, y);
    else
        z = detail::long_power(size, y);
    z = (size == T(0)) | (size == inf) ? ((size == T(0)) == (y < T(0)) ? inf : Vec<T>{}) : z;
    z = (size == T(1)) | (y == T(0)) ? one : z;
    const auto is_whole = [=](Vec<T> v) {
        return (v >= whole_from) | ((v + whole_from) - whole_from == v);
    };
    const auto whole = is_whole(exponent);
    z = whole & ~is_whole(exponent * T(0.5)) ? with_sign<T>(z, x) : z;
    const auto undefined = (x < T(0)) & (x > -inf) & ~whole;
    const auto unknown = ((x != x) | (y != y)) & (x != T(1)) & (y != T(0));
    return undefined | unknown ? broadcast(std::numeric_limits<T>::quiet_NaN()) : z;
}

}  // namespace ai3
