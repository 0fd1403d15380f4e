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
    // Past the caches, where the vectors of `out` are whole and there is no epilogue; they are on a
    // vector's boundary.
    bool streamed = false;
};

// At most panel_rows rows and panel_vectors vectors of pixels.
template <typename T>
void multiply_panel(const PanelProduct<T>& p);

}  // namespace ai3
