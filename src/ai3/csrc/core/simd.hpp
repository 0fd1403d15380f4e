// Vectors of the instruction set that this copy of the core is compiled for.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/tensor.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ai3 {

// Accumulator registers that a micro-kernel may count on, its operands apart.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int accumulators = 28;
#else
constexpr int accumulators = 12;
#endif

template <typename T>
struct VecOf;
template <>
struct VecOf<float> {
    typedef std::int32_t index __attribute__((vector_size(AI3_VECTOR_BYTES)));
    typedef float type __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias));
    typedef float unaligned __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias, aligned(4)));
};
template <>
struct VecOf<double> {
    typedef std::int64_t index __attribute__((vector_size(AI3_VECTOR_BYTES)));
    typedef double type __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias));
    typedef double unaligned __attribute__((vector_size(AI3_VECTOR_BYTES), may_alias, aligned(8)));
};

// Computed with as float.
template <>
struct VecOf<bfloat16> : VecOf<float> {};

template <typename T>
using Vec = typename VecOf<T>::type;

// The type of a lane of Vec<T>: what T is computed with.
template <typename T>
using Lane = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;

// A number for each lane of Vec<T>.
template <typename T>
using VecIndex = typename VecOf<T>::index;

template <typename T>
constexpr int lanes = AI3_VECTOR_BYTES / int(sizeof(Lane<T>));

template <typename T>
inline Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}
template <typename T>
inline void store(T* p, Vec<T> v) {
    *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}
template <typename T>
inline Vec<T> broadcast(T value) {
    return value - Vec<T>{};
}

namespace detail {
typedef std::uint16_t Bits16 __attribute__((vector_size(AI3_VECTOR_BYTES / 2), may_alias));
typedef Bits16 UnalignedBits16 __attribute__((aligned(2)));
typedef std::uint32_t Bits32 __attribute__((vector_size(AI3_VECTOR_BYTES)));
typedef std::uint32_t UnalignedPair __attribute__((aligned(2), may_alias));
}  // namespace detail

// The floats whose upper halves are the lanes of `bits`, and the halves to which floats are rounded
// as bfloat16's constructor does.
inline Vec<float> widened(detail::Bits16 bits) {
    return (Vec<float>)(__builtin_convertvector(bits, detail::Bits32) << 16);
}
inline detail::Bits16 narrowed(Vec<float> v) {
    const detail::Bits32 whole = (detail::Bits32)v;
    const detail::Bits32 rounded = (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
    return __builtin_convertvector(v == v ? rounded : detail::Bits32{} + 0x7fc0, detail::Bits16);
}
inline Vec<float> load(const bfloat16* p) {
    return widened(*reinterpret_cast<const detail::UnalignedBits16*>(p));
}
inline void store(bfloat16* p, Vec<float> v) {
    *reinterpret_cast<detail::UnalignedBits16*>(p) = narrowed(v);
}

// The vector, loaded once: the compiler would load what several instructions use anew for each.
template <typename V>
inline V in_register(V v) {
#if defined(__x86_64__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

// The pointer, of which the compiler does not know where it points: what is read through it is read
// anew, where it would spend more on keeping it.
template <typename T>
inline const T* read_anew(const T* p) {
    asm("" : "+r"(p));
    return p;
}

// Of more than this, the first lines have left the caches before the last is touched. Results are
// then written past the caches: they would not stay there, and need not be read before they are
// written.
constexpr Index cached_bytes = Index{24} << 20;

// Writes past the caches; `p` is on a vector's boundary. Weakly ordered until stream_fence.
template <typename T>
inline void stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
    store(p, v);
#endif
}
inline void stream_fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// Fetches `n` elements into the second-level cache. Always inline, as the compiler drops a call of
// a function that does nothing else.
template <typename T>
[[gnu::always_inline]] inline void fetch(const T* p, Index n) {
    for (Index i = 0; i < n; i += cache_line / Index(sizeof(T))) __builtin_prefetch(p + i, 0, 2);
}

// Some lanes of a vector, lane l as bit l. Memory of the other lanes is not touched, reads as zero.
template <typename T>
class LaneMask {
  public:
    static constexpr unsigned all = (1u << lanes<T>)-1;

    LaneMask() = default;
    explicit LaneMask(unsigned bits) : bits_(std::uint16_t(bits)) {}
    static LaneMask first(Index n) { return LaneMask((1u << n) - 1); }

    unsigned bits() const { return bits_; }

    Vec<T> load(const T* p) const {
#if defined(__AVX512F__)
        if constexpr (std::is_same_v<T, bfloat16>)
            return widened((detail::Bits16)_mm256_maskz_loadu_epi16(bits_, p));
        else if constexpr (sizeof(T) == 4)
            return (Vec<T>)_mm512_maskz_loadu_ps(bits_, p);
        else
            return (Vec<T>)_mm512_maskz_loadu_pd(__mmask8(bits_), p);
#else
#if defined(__AVX2__)
        if constexpr (sizeof(T) == 4)
            return (Vec<T>)_mm256_maskload_ps(p, expanded());
        else if constexpr (sizeof(T) == 8)
            return (Vec<T>)_mm256_maskload_pd(p, expanded());
#endif
        Vec<T> v{};
        for (int l = 0; l < lanes<T>; ++l)
            if (bits_ >> l & 1) v[l] = p[l];
        return v;
#endif
    }

    void store(T* p, Vec<T> v) const {
#if defined(__AVX512F__)
        if constexpr (std::is_same_v<T, bfloat16>)
            _mm256_mask_storeu_epi16(p, bits_, (__m256i)narrowed(v));
        else if constexpr (sizeof(T) == 4)
            _mm512_mask_storeu_ps(p, bits_, (__m512)v);
        else
            _mm512_mask_storeu_pd(p, __mmask8(bits_), (__m512d)v);
#else
#if defined(__AVX2__)
        if constexpr (sizeof(T) == 4)
            return _mm256_maskstore_ps(p, expanded(), (__m256)v);
        else if constexpr (sizeof(T) == 8)
            return _mm256_maskstore_pd(p, expanded(), (__m256d)v);
#endif
        for (int l = 0; l < lanes<T>; ++l)
            if (bits_ >> l & 1) p[l] = T(v[l]);
#endif
    }

    // The lanes of `on`, in the other lanes those of `off`.
    Vec<T> select(Vec<T> on, Vec<T> off) const {
#if defined(__AVX512F__)
        if constexpr (sizeof(Lane<T>) == 4)
            return (Vec<T>)_mm512_mask_blend_ps(bits_, (__m512)off, (__m512)on);
        else
            return (Vec<T>)_mm512_mask_blend_pd(__mmask8(bits_), (__m512d)off, (__m512d)on);
#elif defined(__AVX2__)
        if constexpr (sizeof(Lane<T>) == 4)
            return (Vec<T>)_mm256_blendv_ps((__m256)off, (__m256)on, (__m256)expanded());
        else
            return (Vec<T>)_mm256_blendv_pd((__m256d)off, (__m256d)on, (__m256d)expanded());
#else
        for (int l = 0; l < lanes<T>; ++l)
            if (bits_ >> l & 1) off[l] = on[l];
        return off;
#endif
    }

  private:
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256i expanded() const {
        if constexpr (sizeof(Lane<T>) == 4) {
            const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits_), bit), bit);
        } else {
            const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
            return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits_), bit), bit);
        }
    }
#endif

    std::uint16_t bits_ = 0;
};

// Lane l is p[index[l]], or zero where index[l] is negative.
template <typename T>
inline Vec<T> gather(const T* p, const std::int32_t* index) {
    Vec<T> v{};
    for (int l = 0; l < lanes<T>; ++l)
        if (index[l] >= 0) v[l] = p[index[l]];
    return v;
}

template <typename T>
inline T sum(Vec<T> v) {
    T total = 0;
    for (int l = 0; l < lanes<T>; ++l) total += v[l];
    return total;
}

// Lane l is lane index[l] of `a` and then `b`.
template <typename T>
inline Vec<T> shuffle(Vec<T> a, Vec<T> b, VecIndex<T> index) {
#if defined(__clang__)
    Vec<T> v;
    for (int l = 0; l < lanes<T>; ++l)
        v[l] = index[l] < lanes<T> ? a[index[l]] : b[index[l] - lanes<T>];
    return v;
#else
    return __builtin_shuffle(a, b, index);
#endif
}

// The larger of each two lanes, NaN where either is.
template <typename T>
inline Vec<T> larger(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
    // The instruction gives `b` where either is NaN; lanes in which `a` is stay as they are.
    if constexpr (sizeof(Lane<T>) == 4) {
        const __m512 x = (__m512)a;
        return (Vec<T>)_mm512_mask_max_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x, (__m512)b);
    } else {
        const __m512d x = (__m512d)a;
        return (Vec<T>)_mm512_mask_max_pd(x, _mm512_cmp_pd_mask(x, x, _CMP_ORD_Q), x, (__m512d)b);
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(Lane<T>) == 4) {
        const __m256 x = (__m256)a, most = _mm256_max_ps(x, (__m256)b);
        return (Vec<T>)_mm256_blendv_ps(most, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    } else {
        const __m256d x = (__m256d)a, most = _mm256_max_pd(x, (__m256d)b);
        return (Vec<T>)_mm256_blendv_pd(most, x, _mm256_cmp_pd(x, x, _CMP_UNORD_Q));
    }
#else
    return ((b > a) | (b != b)) ? b : a;
#endif
}

namespace detail {

// One stage of the transpose: swaps the off-diagonal S x S blocks of each 2S x 2S block.
template <typename T, int S, int... L>
inline void swap_blocks(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, L...>) {
    constexpr int W = lanes<T>;
    const Vec<T> low = __builtin_shufflevector(a, b, ((L & S) ? W + L - S : L)...);
    b = __builtin_shufflevector(a, b, ((L & S) ? W + L : L + S)...);
    a = low;
}

template <typename T, int S>
inline void transpose_stages(Vec<T>* rows) {
    if constexpr (S < lanes<T>) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
            if (!(i & S))
                swap_blocks<T, S>(rows[i], rows[i + S],
                                  std::make_integer_sequence<int, lanes<T>>{});
        transpose_stages<T, 2 * S>(rows);
    }
}

}  // namespace detail

// Lane l of the result is the reduction of all lanes of rows[l], lanes<T> rows. Overwrites them.
template <typename T, int S = 1, typename Combine>
inline Vec<T> fold(Vec<T>* rows, Combine combine) {
    if constexpr (S == lanes<T>) {
        return rows[0];
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; i += 2 * S) {
            detail::swap_blocks<T, S>(rows[i], rows[i + S],
                                      std::make_integer_sequence<int, lanes<T>>{});
            rows[i] = combine(rows[i], rows[i + S]);
        }
        return fold<T, 2 * S>(rows, combine);
    }
}

namespace detail {

template <typename T, int... L>
inline void deinterleave(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, L...>) {
    const Vec<T> even = __builtin_shufflevector(a, b, (2 * L)...);
    b = __builtin_shufflevector(a, b, (2 * L + 1)...);
    a = even;
}

}  // namespace detail

// Of the lanes of `a` and then `b`: the even ones to `a`, the odd ones to `b`.
template <typename T>
inline void deinterleave(Vec<T>& a, Vec<T>& b) {
    detail::deinterleave<T>(a, b, std::make_integer_sequence<int, lanes<T>>{});
}

// Lane l is p[l * S] where bit l * S is set, else zero; other memory is not touched. S is 1, 2
// or 4.
template <typename T, int S>
inline Vec<T> load_strided(const T* p, std::uint64_t bits) {
    constexpr int W = lanes<T>;
    Vec<T> x[S];
#pragma GCC unroll 4
    for (int i = 0; i < S; ++i) {
        const unsigned here = unsigned(bits >> (i * W)) & LaneMask<T>::all;
        x[i] = here == LaneMask<T>::all ? load(p + i * W) : LaneMask<T>(here).load(p + i * W);
    }
    if constexpr (S == 4) {
        deinterleave<T>(x[0], x[1]);
        deinterleave<T>(x[2], x[3]);
        x[1] = x[2];
    }
    if constexpr (S > 1) deinterleave<T>(x[0], x[1]);
    return x[0];
}

// Transposes a square of lanes<T> vectors in registers.
template <typename T>
inline void transpose(Vec<T>* rows) {
    detail::transpose_stages<T, 1>(rows);
}

}  // namespace ai3
