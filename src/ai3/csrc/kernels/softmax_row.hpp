// The parts of softmax along a row of memory.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/elementary.hpp"

namespace ai3 {

// The largest of `n` numbers, NaN if one is.
template <typename T>
Lane<T> largest(const T* x, Index n) {
    constexpr Index W = lanes<T>;
    const Vec<T> least = broadcast(-std::numeric_limits<Lane<T>>::infinity());
    Vec<T> most = least, other = least;
    Index i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        most = larger<T>(most, load(x + i));
        other = larger<T>(other, load(x + i + W));
    }
    for (; i < n; i += W) {
        const auto live = LaneMask<T>::first(std::min(W, n - i));
        most = larger<T>(most, live.select(live.load(x + i), least));
    }
    most = larger<T>(most, other);
    Lane<T> result = most[0];
    for (int l = 1; l < lanes<T>; ++l)
        if (!(most[l] <= result)) result = result == result ? most[l] : result;
    return result;
}

// out[i] = exp(x[i] * scale - subtracted), 0 up to the exponent `bound`; the sum of all by lanes.
// Right in place too.
template <typename T>
Vec<T> exponentials(const T* x, T* out, Index n, T scale, T subtracted,
                    T bound = detail::Elementary<T>::exp_least) {
    constexpr Index W = lanes<T>;
    Vec<T> total{}, other{};
    Index i = 0;
    const auto value = [&](Vec<T> v) { return exp_above<T>(v * scale - subtracted, bound); };
    for (; i + 2 * W <= n; i += 2 * W) {
        const Vec<T> a = value(load(x + i)), b = value(load(x + i + W));
        total += a, other += b;
        store(out + i, a), store(out + i + W, b);
    }
    for (; i < n; i += W) {
        const auto live = LaneMask<T>::first(std::min(W, n - i));
        const Vec<T> y = value(live.load(x + i));
        total += live.select(y, Vec<T>{});
        live.store(out + i, y);
    }
    return total + other;
}

template <typename T>
void scale_row(T* x, Index n, T factor) {
    constexpr Index W = lanes<T>;
    for (Index i = 0; i < n; i += W) {
        const auto live = LaneMask<T>::first(std::min(W, n - i));
        live.store(x + i, live.load(x + i) * factor);
    }
}

template <typename T>
void softmax_row(const T* x, T* out, Index n) {
    const T total = sum<T>(exponentials(x, out, n, T(1), largest(x, n)));
    scale_row(out, n, T(1) / total);
}

// The same in bfloat16, rounded once: exponentials are computed twice, and not stored between.
inline void softmax_row(const bfloat16* in, bfloat16* out, Index n) {
    constexpr Index W = lanes<float>;
    const float most = largest(in, n);
    const auto for_each_vector = [&](auto&& call) {
        for (Index i = 0; i < n; i += W) {
            const auto live = LaneMask<bfloat16>::first(std::min(W, n - i));
            call(i, live,
                 exp_above<float>(live.load(in + i) - most, detail::Elementary<float>::exp_least));
        }
    };
    Vec<float> totals{};
    for_each_vector(
        [&](Index, auto live, Vec<float> y) { totals += live.select(y, Vec<float>{}); });
    const float scale = 1 / sum<float>(totals);
    for_each_vector([&](Index i, auto live, Vec<float> y) { live.store(out + i, y * scale); });
}

}  // namespace ai3
