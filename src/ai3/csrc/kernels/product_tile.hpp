// The inner loop of matrix products: a tile of the result, C rows of V vectors, in registers.
#pragma once

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
    void compute(Index rows, Index columns);
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
