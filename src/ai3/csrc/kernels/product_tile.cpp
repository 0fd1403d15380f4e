#include "kernels/product_tile.hpp"

#include <array>

namespace ai3 {
namespace {

template <typename T, int V, bool tail, int C>
void multiply(const ProductTile<T>& p) {
    constexpr Index W = lanes<T>;
    Vec<T> acc[C][V] = {};
    const T *x = p.a, *y = p.b;
    for (Index k = 0; k < p.n; ++k, ++x, y += p.b_row) {
        Vec<T> w[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v)
            w[v] = tail && v == V - 1 ? p.last.load(y + v * W) : load(y + v * W);
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            const Vec<T> scalar = broadcast(x[c * p.a_row]);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[c][v] += scalar * w[v];
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
            T* to = p.out + c * p.out_row + v * W;
            if (tail && v == V - 1)
                p.last.store(to, p.add ? acc[c][v] + p.last.load(to) : acc[c][v]);
            else
                store(to, p.add ? acc[c][v] + load(to) : acc[c][v]);
        }
}

template <typename T, int V, bool tail, int... C>
constexpr auto tiles_of(std::integer_sequence<int, C...>) {
    return std::array{multiply<T, V, tail, C + 1>...};
}

template <typename T, int V, bool tail>
constexpr auto tiles =
    tiles_of<T, V, tail>(std::make_integer_sequence<int, ProductTile<T>::max_rows>{});

}  // namespace

template <typename T>
void ProductTile<T>::compute(Index rows, Index columns) {
    constexpr Index W = lanes<T>;
    const bool one = columns <= W;
    const bool tail = columns % W != 0;
    if (tail) last = LaneMask<T>::first(columns % W);
    (one    ? tail ? tiles<T, 1, true> : tiles<T, 1, false>
     : tail ? tiles<T, 2, true>
            : tiles<T, 2, false>)[std::size_t(rows - 1)](*this);
}

template struct ProductTile<float>;
template struct ProductTile<double>;

}  // namespace ai3
