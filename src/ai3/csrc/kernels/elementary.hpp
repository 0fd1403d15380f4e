// exp, expm1, tanh, erf and gelu of vectors, with their usual values at NaN and the infinities.
// Polynomials are minimax fits (Remez); ranges are reduced as in Muller, "Elementary Functions",
// chapters 10 and 11. Largest errors, in units of the last place of the correctly rounded result:
//
//            exp   expm1   tanh   erf
//   float    1.0     1.5    2.5
//   double   1.0     2.0    2.5   1.7
//
// gelu of float is within 0.9 units of the last place of max(|x|, 1).
#pragma once

#include <array>
#include <limits>

#include "core/simd.hpp"

namespace ai3 {

namespace detail {

template <typename T>
struct Elementary;

template <>
struct Elementary<float> {
    // Added to a number of less than 2^22, leaves its nearest integer in the low bits.
    static constexpr float round = 0x1.8p23f;
    static constexpr int mantissa = 23, bias = 127;
    // ln 2 as a sum: products of the first with exponents are exact.
    static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    // Beyond these e^x is infinite or zero.
    static constexpr float exp_most = 89, exp_least = -104;
    // From here on e^x is a normal number.
    static constexpr float exp_normal = -87.33654f;
    // Below this e^x - 1 is -1; beyond this tanh is 1.
    static constexpr float expm1_least = -18, tanh_most = 9.1f;
    // (e^x - 1 - x) / x^2 for |x| <= ln(2) / 2, and erf(x) / x as a quotient of functions of x^2
    // for |x| <= erf_most.
    static constexpr std::array exp_tail{0.500000001429594862f,   0.166666667619258326f,
                                         0.0416664567461695597f,  0.0083332841034163145f,
                                         0.00139345471117584078f, 0.000199089063281208258f};
    // The normal distribution's mass beyond a, for 0 <= a <= tail_most, as a function of
    // 2 a / tail_most - 1, so weighted that its product with a is exact too.
    static constexpr float tail_most = 5.5f;
    static constexpr std::array normal_tail{
        0.00297975730966f,  -0.0250074200264f, 0.0945599659847f,  -0.20684087188f,
        0.27185291581f,     -0.176689003051f,  -0.0511753376195f, 0.215405868483f,
        -0.163539516068f,   -0.0249659458991f, 0.133168886433f,   -0.0671527101458f,
        -0.0419376812391f,  0.0482393574825f,  0.0032530203132f,  -0.0148320839232f,
        0.000838018117095f, 0.0018428041193f};
};

template <>
struct Elementary<double> {
    static constexpr double round = 0x1.8p52;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    static constexpr double exp_most = 710, exp_least = -746, exp_normal = -708.39641;
    static constexpr double expm1_least = -38, tanh_most = 19.1;
    static constexpr std::array exp_tail{0.5,
                                         0.166666666666666714,
                                         0.0416666666666666856,
                                         0.00833333333332554346,
                                         0.00138888888888732099,
                                         0.000198412698768679967,
                                         0.0000248015873501264546,
                                         2.75572528295539274e-6,
                                         2.75572502457159009e-7,
                                         2.51062761710849353e-8,
                                         2.09224822761775302e-9};
    // erf(x) / x as a function of x^2 for |x| <= 1, and ln(1 - erf(x)) for 1 <= x <= erf_most,
    // beyond which erf is 1.
    static constexpr double erf_most = 5.95;
    static constexpr std::array erf_near{
        1.12837916709551257,     -0.376126389031837476,     0.112837916709548579,
        -0.0268661706450729592,  0.00522397762478136979,    -0.000854832697876514882,
        0.000120553310375511081, -0.0000149255935187282267, 1.64609729541537657e-6,
        -1.63500261920772685e-7, 1.46578835309196535e-8,    -1.13656706718271593e-9,
        5.94525558422348744e-11};
    static constexpr std::array erf_far{
        -1.84423460944579543e-7,   -1.12837728199507393,     -0.636628705696318687,
        -0.102746636667959791,     0.0190769429931164038,    0.000282247398154614636,
        -0.00177094692895086744,   0.000642852791862929969,  -0.0000459692672751999755,
        -0.0000697430715788833112, 0.0000447666652796273995, -0.0000164203369350944636,
        4.30145994054467844e-6,    -8.45122837672702894e-7,  1.24819116162820151e-7,
        -1.35207788586908862e-8,   1.01692297954789919e-9,   -4.7510475371079615e-11,
        1.03888665435218254e-12};
};

// coefficients[0] + coefficients[1] x + ...
template <typename T, std::size_t N>
inline Vec<T> polynomial(const std::array<T, N>& coefficients, Vec<T> x) {
    Vec<T> sum = broadcast(coefficients[N - 1]);
#pragma GCC unroll 24
    for (int i = int(N) - 2; i >= 0; --i) sum = sum * x + coefficients[std::size_t(i)];
    return sum;
}

// x = n ln 2 + r with an integer n and |r| <= ln(2) / 2, for x within exp_least and exp_most.
template <typename T>
struct Reduced {
    Vec<T> n, r;
};

template <typename T>
inline Reduced<T> reduced(Vec<T> x) {
    using E = Elementary<T>;
    const Vec<T> shifted = x * T(1.442695040888963407) + E::round, n = shifted - E::round;
    return {n, (x - n * E::ln2_high) - n * E::ln2_low};
}

// 2^n for an integer n, where that is a normal number.
template <typename T>
inline Vec<T> power_of_two(VecIndex<T> n) {
    return (Vec<T>)((n + Elementary<T>::bias) << Elementary<T>::mantissa);
}
template <typename T>
inline VecIndex<T> integer(Vec<T> n) {
    return (VecIndex<T>)(n + Elementary<T>::round) - (VecIndex<T>)broadcast(Elementary<T>::round);
}

// y times 2^n.
template <typename T>
inline Vec<T> scaled(Vec<T> y, Vec<T> n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm512_maskz_scalef_ps(0xffff, (__m512)y, (__m512)n);
    else
        return (Vec<T>)_mm512_maskz_scalef_pd(0xff, (__m512d)y, (__m512d)n);
#else
    // In two steps, as 2^n need not be a normal number where the result is one, or is subnormal.
    const VecIndex<T> whole = integer<T>(n), half = whole >> 1;
    return y * power_of_two<T>(half) * power_of_two<T>(whole - half);
#endif
}

}  // namespace detail

// The smaller or larger of `x` and a bound; NaN stays NaN: where it cannot compare, the instruction
// gives its second operand.
template <typename T>
inline Vec<T> at_most(Vec<T> x, T bound) {
    const Vec<T> most = broadcast(bound);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm512_maskz_min_ps(0xffff, (__m512)most, (__m512)x);
    else
        return (Vec<T>)_mm512_maskz_min_pd(0xff, (__m512d)most, (__m512d)x);
#else
    return x > bound ? most : x;
#endif
}
template <typename T>
inline Vec<T> at_least(Vec<T> x, T bound) {
    const Vec<T> least = broadcast(bound);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm512_maskz_max_ps(0xffff, (__m512)least, (__m512)x);
    else
        return (Vec<T>)_mm512_maskz_max_pd(0xff, (__m512d)least, (__m512d)x);
#else
    return x < bound ? least : x;
#endif
}

// x without its sign, and `x` with the sign of `sign`.
template <typename T>
inline Vec<T> magnitude(Vec<T> x) {
    return (Vec<T>)((VecIndex<T>)x & ~(VecIndex<T>)broadcast(T(-0.0)));
}
template <typename T>
inline Vec<T> with_sign(Vec<T> x, Vec<T> sign) {
    return (Vec<T>)((VecIndex<T>)x | ((VecIndex<T>)sign & (VecIndex<T>)broadcast(T(-0.0))));
}

template <typename T>
inline Vec<T> exp(Vec<T> x) {
    using E = detail::Elementary<T>;
    const auto [n, r] = detail::reduced<T>(at_least<T>(at_most<T>(x, E::exp_most), E::exp_least));
    const Vec<T> y = detail::polynomial<T>(E::exp_tail, r) * (r * r) + r + T(1);
    return detail::scaled<T>(y, n);
}

// e^x, 0 up to `bound`. Lanes up to there take no time, where arithmetic that ends below the normal
// numbers takes some processors a hundred times as long.
template <typename T>
inline Vec<T> exp_above(Vec<T> x, T bound) {
    const auto below = x <= broadcast(bound);
    return below ? Vec<T>{} : exp<T>(below ? Vec<T>{} : x);
}

// e^x - 1, exact also where that is small.
template <typename T>
inline Vec<T> expm1(Vec<T> x) {
    using E = detail::Elementary<T>;
    const auto [n, r] = detail::reduced<T>(at_least<T>(at_most<T>(x, E::exp_most), E::expm1_least));
    const Vec<T> y = detail::polynomial<T>(E::exp_tail, r) * (r * r) + r;
    // 2^n y + 2^n - 1, where 2^n may be twice the largest number.
    const Vec<T> half = detail::power_of_two<T>(detail::integer<T>(n) - 1);
    const Vec<T> result = (half * y + (half - T(0.5))) * T(2);
    return x == T(0) ? x : result;
}

template <typename T>
inline Vec<T> tanh(Vec<T> x) {
    const Vec<T> most = at_most<T>(magnitude<T>(x), detail::Elementary<T>::tanh_most);
    const Vec<T> e = expm1<T>(most + most);
    return with_sign<T>(e / (e + T(2)), x);
}

inline Vec<double> erf(Vec<double> x) {
    using E = detail::Elementary<double>;
    const auto size = at_most<double>(magnitude<double>(x), E::erf_most);
    const auto near = detail::polynomial<double>(E::erf_near, size * size) * size;
    const auto far = 1.0 - exp<double>(detail::polynomial<double>(E::erf_far, size));
    return with_sign<double>(size > 1.0 ? far : near, x);
}

// x times the normal distribution's mass up to x. For float by the mass beyond |x|: no cancellation
// has to be made up for, and no exponential is taken.
template <typename T>
inline Vec<T> gelu(Vec<T> x) {
    if constexpr (sizeof(T) == 4) {
        using E = detail::Elementary<T>;
        const Vec<T> size = magnitude<T>(x), near = at_most<T>(size, E::tail_most);
        const Vec<T> tail = detail::polynomial<T>(E::normal_tail, near * (2 / E::tail_most) - T(1));
        const Vec<T> step = x > T(0) ? broadcast(T(1)) : Vec<T>{};
        return x * step - (size < E::tail_most ? size * tail : Vec<T>{});
    } else {
        return x * T(0.5) * (T(1) + erf(x * T(0.70710678118654752440)));
    }
}

}  // namespace ai3
