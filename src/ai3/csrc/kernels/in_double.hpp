// Float vectors that are computed with in double.
#pragma once

#include "core/simd.hpp"

namespace ai3 {

// f of both halves of the vectors, as vectors of double.
template <typename F, typename... V>
inline Vec<float> in_double(F f, V... x) {
    return [&]<int... L>(std::integer_sequence<int, L...>) {
        constexpr int W = lanes<double>;
        const auto half = [&](auto first) {
            return f(__builtin_convertvector(__builtin_shufflevector(x, x, (L + first())...),
                                             Vec<double>)...);
        };
        const auto narrow = [](Vec<double> v) {
            typedef float Half __attribute__((vector_size(AI3_VECTOR_BYTES / 2)));
            return __builtin_convertvector(v, Half);
        };
        const auto low = narrow(half(std::integral_constant<int, 0>{}));
        const auto high = narrow(half(std::integral_constant<int, W>{}));
        return (Vec<float>)__builtin_shufflevector(low, high, L..., (L + W)...);
    }(std::make_integer_sequence<int, lanes<double>>{});
}

}  // namespace ai3
