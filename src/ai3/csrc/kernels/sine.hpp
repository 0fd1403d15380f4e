// sin and cos of vectors: multiples of pi / 2 are taken off in three parts (Cody and Waite; Muller,
// "Elementary Functions", chapter 11), for float in double. Where they would be too many, each
// element is the C library's. Polynomials are minimax fits (Remez). Largest errors, in units of the
// last place of the correctly rounded result: float 0.6, double 0.9.
#pragma once

#include <cmath>

#include "kernels/elementary.hpp"
#include "kernels/in_double.hpp"

namespace ai3 {

namespace detail {

// (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 as functions of r^2, for |r| <= pi / 4.
template <typename T>
constexpr std::array sin_tail{-0.16666666666666632029,    0.0083333333333224139124,
                              -0.00019841269829807959054, 2.7557313691958418021e-6,
                              -2.5050758120444774057e-8,  1.5896795908244844717e-10};
template <>
inline constexpr std::array sin_tail<float>{-0.166666549366, 0.00833217768368, -0.000195172344728};
template <typename T>
constexpr std::array cos_tail{0.041666666666666651329,    -0.0013888888888882839138,
                              0.000024801587294628005435, -2.7557315738613275721e-7,
                              2.0875897738682841919e-9,   -1.1367981880469046194e-11};
template <>
inline constexpr std::array cos_tail<float>{0.0416666468547, -0.00138873669127, 2.44383795652e-5};

// The multiples of the first two parts are exact up to here.
constexpr double turns_most = 1e5;

// x = n pi / 2 + r + low with an integer n and |r| <= pi / 4, low within the rounding of r; for
// |x| <= turns_most.
struct Turned {
    Vec<double> n, r, low;
};

inline Turned turned(Vec<double> x) {
    const Vec<double> n =
        (x * 0.63661977236758134308 + Elementary<double>::round) - Elementary<double>::round;
    const Vec<double> a = x - n * 0x1.921fb5444p0, b = n * 0x1.68c234c4cp-39;
    const Vec<double> t = a - b, rest = ((a - t) - b) - n * 0x1.98a2e03707345p-77;
    const Vec<double> r = t + rest;
    return {n, r, rest - (r - t)};
}

// Whether any lane is set.
template <typename T>
inline bool any(VecIndex<T> mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
    std::int64_t words[AI3_VECTOR_BYTES / 8], all = 0;
    std::memcpy(words, &mask, sizeof words);
    for (std::int64_t word : words) all |= word;
    return all != 0;
#endif
}

// sin(n pi / 2 + r + low), to the precision of T.
template <typename T>
inline Vec<double> sin_of_parts(Vec<double> n, Vec<double> r, Vec<double> low) {
    const Vec<double> z = r * r, half = z * 0.5, most = 1.0 - half;
    Vec<double> sine = r * z * polynomial<double>(sin_tail<T>, z);
    Vec<double> cosine = z * z * polynomial<double>(cos_tail<T>, z);
    if constexpr (sizeof(T) == 8) {
        sine += low * most;
        cosine += ((1.0 - most) - half) - r * low;
    }
    // Of any n, as lanes beyond turns_most come along: its lowest bits.
    const auto quarter = (VecIndex<double>)(n + Elementary<double>::round);
    const Vec<double> size = (quarter & 1) != 0 ? most + cosine : r + sine;
    return (Vec<double>)((VecIndex<double>)size ^ ((quarter & 2) << 62));
}

// sin(x + quarters pi / 2) within turns_most.
template <int quarters, typename T>
inline Vec<T> sin_near(Vec<T> x) {
    const auto compute = [](Vec<double> v) {
        const auto [n, r, low] = turned(v);
        return sin_of_parts<T>(n + double(quarters), r, low);
    };
    if constexpr (sizeof(T) == 4)
        return in_double(compute, x);
    else
        return compute(x);
}

// y, but f(x) in the lanes of `far`.
template <typename T, typename F>
[[gnu::noinline]] Vec<T> with_each(VecIndex<T> far, Vec<T> x, Vec<T> y, F f) {
    for (int l = 0; l < lanes<T>; ++l)
        if (far[l]) y[l] = f(x[l]);
    return y;
}

// y, but f(x) where x is beyond turns_most.
template <typename T, typename F>
inline Vec<T> or_far(Vec<T> x, Vec<T> y, F f) {
    const VecIndex<T> far = magnitude<T>(x) > T(turns_most);
    return any<T>(far) ? with_each<T>(far, x, y, f) : y;
}

}  // namespace detail

template <typename T>
inline Vec<T> sin(Vec<T> x) {
    const Vec<T> y = detail::sin_near<0, T>(x);
    return detail::or_far<T>(x, x == T(0) ? x : y, [](T v) { return std::sin(v); });
}

template <typename T>
inline Vec<T> cos(Vec<T> x) {
    const Vec<T> y = detail::sin_near<1, T>(x);
    return detail::or_far<T>(x, y, [](T v) { return std::cos(v); });
}

}  // namespace ai3
