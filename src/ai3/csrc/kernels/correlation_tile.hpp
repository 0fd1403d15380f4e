// The register tile of correlations: R values from anywhere x V vectors, summed over pixels.
#pragma once

#include <array>

#include "core/simd.hpp"

namespace ai3 {

// The pixels of a sum, whose vectors lie one behind the other, and how far apart, in elements, the
// values are that those are multiplied by.
struct PixelGrid {
    Index images, rows, columns;
    Index image_stride, row_stride, step;

    Index pixels() const { return images * rows * columns; }
};

// sums (R, V vectors) = for each r the sum over pixels of values[offsets[r] + pixel] times the V
// vectors of the pixel. STEP is the grid's step, 0: as it says.
template <typename T, int V, int R, int STEP>
void correlation_tile(const PixelGrid& grid, const T* values, const Index* offsets,
                      const T* vectors, T* sums) {
    constexpr int W = lanes<T>;
    const Index step = STEP ? STEP : grid.step;
    Vec<T> acc[R][V] = {};
    for (Index n = 0; n < grid.images; ++n)
        for (Index row = 0; row < grid.rows; ++row) {
            const T* at = values + n * grid.image_stride + row * grid.row_stride;
            for (Index i = 0; i < grid.columns; ++i, at += step, vectors += V * W) {
                Vec<T> y[V];
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) y[v] = load(vectors + v * W);
#pragma GCC unroll 14
                for (int r = 0; r < R; ++r) {
                    const Vec<T> value = broadcast(at[offsets[r]]);
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) acc[r][v] += value * y[v];
                }
            }
        }
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(sums + (r * V + v) * W, acc[r][v]);
}

template <typename T>
struct CorrelationTiles {
    static constexpr int max_vectors = 2;
    static constexpr int max_rows = accumulators / max_vectors;

    using Tile = void (*)(const PixelGrid&, const T*, const Index*, const T*, T*);

    // `vectors` in [1, max_vectors], `rows` in [1, max_rows].
    static Tile find(Index vectors, Index rows, Index step) {
        const auto place = [&](const auto& tiles) {
            return tiles[std::size_t(vectors - 1)][std::size_t(rows - 1)];
        };
        if constexpr (sizeof(T) == sizeof(float))
            if (step == 1) return place(of_step<1>);
        return place(of_step<0>);
    }

  private:
    using Row = std::array<Tile, max_rows>;
    template <int STEP, int V, int... R>
    static constexpr Row tiles_of(std::integer_sequence<int, R...>) {
        return {correlation_tile<T, V, R + 1, STEP>...};
    }
    template <int STEP>
    static constexpr std::array<Row, max_vectors> of_step = {
        tiles_of<STEP, 1>(std::make_integer_sequence<int, max_rows>{}),
        tiles_of<STEP, 2>(std::make_integer_sequence<int, max_rows>{})};
};

}  // namespace ai3
