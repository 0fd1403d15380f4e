// The matrix product with vectors along pixels: C rows of the result x V vectors of pixels stay in
// registers; each step multiplies V vectors of a row of the right factor by C broadcast weights.
#pragma once

#include "core/simd.hpp"
#include "kernels/epilogue.hpp"

namespace ai3 {

// Rows of a tile; what remains of them is done by tiles of fewer, a power of two.
constexpr int panel_rows = accumulators >= 24 ? 8 : 4;
constexpr int panel_vectors = 3;

constexpr Index tile_rows(Index rows) {
    Index tile = panel_rows;
    while (tile / 2 >= rows) tile /= 2;
    return tile;
}

// out (rows, pixels) of row stride `plane` = begin + a (K, tile_rows(rows))^T * b (K, pixels) of
// row stride `pitch`. It begins with `bias` (tile_rows) or, where that is null, with what `out`
// holds. Nothing is read beyond the last pixel.
template <typename T>
struct PanelProduct {
    Index K;
    const T* a;
    const T* b;
    Index pitch;
    const T* bias;
    T* out;
    Index plane, rows, pixels;
    const Epilogue<T>* epilogue;
    // Past the caches, where the vectors of `out` are whole; they are on a vector's boundary.
    bool streamed = false;
};

namespace detail {

template <typename T, int C, int V>
void multiply_panel(const PanelProduct<T>& p) {
    constexpr int W = lanes<T>;
    const auto tail = LaneMask<T>::first(std::min<Index>(p.pixels - (V - 1) * W, W));
    const auto place = [&](int c, int v) { return p.out + c * p.plane + v * W; };
    Vec<T> acc[C][V];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v)
            acc[c][v] = p.bias       ? broadcast(p.bias[c])
                        : c < p.rows ? v < V - 1 ? load(place(c, v)) : tail.load(place(c, v))
                                     : Vec<T>{};
    const auto multiply = [&](auto load_last) __attribute__((always_inline)) {
        const T* a = p.a;
        const T* b = p.b;
        for (Index k = 0; k < p.K; ++k, a += C, b += p.pitch) {
            Vec<T> x[V];
#pragma GCC unroll 3
            for (int v = 0; v < V - 1; ++v) x[v] = load(b + v * W);
            x[V - 1] = load_last(b + (V - 1) * W);
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const Vec<T> scalar = broadcast(a[c]);
#pragma GCC unroll 3
                for (int v = 0; v < V; ++v) acc[c][v] += scalar * x[v];
            }
        }
    };
    if (p.pixels == V * W)
        multiply([](const T* at) { return load(at); });
    else
        multiply([&](const T* at) { return tail.load(at); });
    const bool streamed = p.streamed && p.pixels == V * W;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
        if (c >= p.rows) break;
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) {
            const auto live = v < V - 1 ? LaneMask<T>(LaneMask<T>::all) : tail;
            if (p.epilogue) acc[c][v] = (*p.epilogue)(acc[c][v], place(c, v), live);
            if (streamed)
                stream(place(c, v), acc[c][v]);
            else
                live.store(place(c, v), acc[c][v]);
        }
    }
}

template <typename T, int C>
void multiply_rows(const PanelProduct<T>& p) {
    if (p.pixels > 2 * lanes<T>)
        multiply_panel<T, C, 3>(p);
    else if (p.pixels > lanes<T>)
        multiply_panel<T, C, 2>(p);
    else
        multiply_panel<T, C, 1>(p);
}

}  // namespace detail

// At most panel_rows rows and panel_vectors vectors of pixels.
template <typename T>
void multiply_panel(const PanelProduct<T>& p) {
    switch (tile_rows(p.rows)) {
        case 1:
            return detail::multiply_rows<T, 1>(p);
        case 2:
            return detail::multiply_rows<T, 2>(p);
        case 4:
            return detail::multiply_rows<T, 4>(p);
        default:
            return detail::multiply_rows<T, panel_rows>(p);
    }
}

}  // namespace ai3
