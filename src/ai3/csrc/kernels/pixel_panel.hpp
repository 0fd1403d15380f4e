// The matrix product with vectors along pixels: C rows of the result x V vectors of pixels stay in
// registers; each step multiplies V vectors of a packed panel by C broadcast weights.
#pragma once

#include "core/simd.hpp"

namespace ai3 {

constexpr int panel_rows = accumulators >= 24 ? 8 : 4;
constexpr int panel_vectors = 3;
template <typename T>
constexpr Index panel_width = panel_vectors * lanes<T>;

// out (C, V * lanes) of row stride `plane` = begin + a (K, C)^T * b (K, panel_width). It begins
// with `bias` (C) or, where that is null, with what `out` holds. Stores `rows` rows and `pixels`
// pixels.
template <typename T, int V>
void multiply_panel(Index K, const T* a, const T* b, const T* bias, T* out, Index plane, Index rows,
                    Index pixels) {
    constexpr int C = panel_rows, W = lanes<T>;
    Vec<T> acc[C][V];
    LaneMask<T> live[V];
    for (int v = 0; v < V; ++v)
        live[v] = LaneMask<T>::first(std::clamp<Index>(pixels - v * W, 0, W));
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v)
            acc[c][v] = bias       ? broadcast(bias[c])
                        : c < rows ? live[v].load(out + c * plane + v * W)
                                   : Vec<T>{};
    for (Index k = 0; k < K; ++k, a += C, b += panel_width<T>) {
        Vec<T> x[V];
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) x[v] = load(b + v * W);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const Vec<T> scalar = broadcast(a[c]);
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) acc[c][v] += scalar * x[v];
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
        if (c >= rows) break;
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) live[v].store(out + c * plane + v * W, acc[c][v]);
    }
}

template <typename T>
void multiply_panel(Index K, const T* a, const T* b, const T* bias, T* out, Index plane, Index rows,
                    Index pixels) {
    if (pixels > 2 * lanes<T>)
        multiply_panel<T, 3>(K, a, b, bias, out, plane, rows, pixels);
    else if (pixels > lanes<T>)
        multiply_panel<T, 2>(K, a, b, bias, out, plane, rows, pixels);
    else
        multiply_panel<T, 1>(K, a, b, bias, out, plane, rows, pixels);
}

}  // namespace ai3
