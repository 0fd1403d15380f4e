// The inner loop of matrix products: a tile of the result, C rows of V vectors, in registers.
#pragma once

#include <array>

#include "core/simd.hpp"

namespace ai3 {

// out (C, V vectors) = or, to `add`, += a (C, n) times b (n, V vectors). Rows are `a_row`, `b_row`
// and `out_row` elements apart. `last` are the lanes of the last vector that there are.
template <typename T>
struct ProductTile {
    static constexpr int vectors = 2;
    static constexpr int max_rows = accumulators / vectors;
    static constexpr Index columns = vectors * lanes<T>;

    const T* a;
    Index a_row;
    const T* b;
    Index b_row;
    Index n;
    T* out;
    Index out_row;
    bool add = false;
    LaneMask<T> last{LaneMask<T>::all};

    // `rows` in [1, max_rows], `columns` in [1, ProductTile::columns].
    void compute(Index rows, Index columns) {
        constexpr Index W = lanes<T>;
        const bool one = columns <= W;
        const bool tail = columns % W != 0;
        if (tail) last = LaneMask<T>::first(columns % W);
        (this->*(one    ? tail ? tiles<1, true> : tiles<1, false>
                 : tail ? tiles<2, true>
                        : tiles<2, false>)[std::size_t(rows - 1)])();
    }

  private:
    template <int V, bool tail, int C>
    void multiply() {
        constexpr Index W = lanes<T>;
        Vec<T> acc[C][V] = {};
        const T *x = a, *y = b;
        for (Index k = 0; k < n; ++k, ++x, y += b_row) {
            Vec<T> w[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v)
                w[v] = tail && v == V - 1 ? last.load(y + v * W) : load(y + v * W);
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                const Vec<T> scalar = broadcast(x[c * a_row]);
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) acc[c][v] += scalar * w[v];
            }
        }
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                T* to = out + c * out_row + v * W;
                if (tail && v == V - 1)
                    last.store(to, add ? acc[c][v] + last.load(to) : acc[c][v]);
                else
                    store(to, add ? acc[c][v] + load(to) : acc[c][v]);
            }
    }

    using Multiply = void (ProductTile::*)();
    template <int V, bool tail, int... C>
    static constexpr std::array<Multiply, sizeof...(C)> tiles_of(std::integer_sequence<int, C...>) {
        return {&ProductTile::multiply<V, tail, C + 1>...};
    }
    template <int V, bool tail>
    static constexpr std::array<Multiply, max_rows> tiles =
        tiles_of<V, tail>(std::make_integer_sequence<int, max_rows>{});
};

// Splits `rows` into tiles of at most max_rows, as even as they can be.
template <typename T, typename Call>
void for_row_tiles(Index rows, Call call) {
    constexpr Index most = ProductTile<T>::max_rows;
    const Index tiles = (rows + most - 1) / most;
    for (Index i = 0; i < tiles; ++i) {
        const Index first = rows * i / tiles;
        call(first, rows * (i + 1) / tiles - first);
    }
}

}  // namespace ai3
