// Linear for many input rows: a blocked matrix product. Vectors run along the input's rows; a tile
// of V vectors of rows x C weight rows stays in registers while each step multiplies V input
// vectors by C broadcast weights. A block of the input is packed, transposed, into L2. The weight
// is copied C rows at a time, to a pitch at which they do not share cache sets, as rows of 2^n
// elements would.
//
// Goto, van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 34(3), 2008.
#pragma once

#include <array>

#include "core/simd.hpp"
#include "ops/linear/op.hpp"

namespace ai3 {

template <typename T>
class PanelsPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index V = 2;
    static constexpr Index panel = V * W;
    static constexpr Index max_columns = accumulators / V;
    // Elements along IC and input rows in a block.
    static constexpr Index block_k = 4096 / sizeof(T);
    static constexpr Index block_m = 256;
    static constexpr Index pitch = block_k + cache_line / sizeof(T);

    struct Workspace {
        alignas(cache_line) T input[block_m * block_k];
        T weight[max_columns * pitch];
        T sums[(max_columns + W) * panel];
    };

    using Tile = void (*)(const T* input, const T* weight, Index n, T* sums);

  public:
    PanelsPlan(const Linear& problem, const WeightSet& weights)
        : p(problem), weight(weights.data<T>(0)), bias(weights.data<T>(1)) {
        const Index tiles = (p.OC + max_columns - 1) / max_columns;
        columns = (p.OC + tiles - 1) / tiles;
        tile = tile_for<V>(columns);
        half_tile = tile_for<1>(columns);
    }

    static std::size_t workspace_bytes(const Linear& p) {
        return std::size_t(p.threads) * sizeof(Workspace);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index panels = (p.M + panel - 1) / panel, tiles = (p.OC + columns - 1) / columns;
        const Index wanted = 4 * p.threads;
        const Index parts_m = (panels * panel + block_m - 1) / block_m;
        const Index parts_n = p.threads == 1 ? 1 : std::clamp<Index>(wanted / parts_m, 1, tiles);
        parallel_for(p.threads, parts_m * parts_n, [&](Index i, int thread) {
            const Index part_m = i / parts_n, part_n = i % parts_n;
            Workspace& space = reinterpret_cast<Workspace*>(workspace)[thread];
            const Index m = panels * part_m / parts_m * panel;
            const Index m_end = std::min(panels * (part_m + 1) / parts_m * panel, p.M);
            const Index oc = tiles * part_n / parts_n * columns;
            const Index oc_end = std::min(tiles * (part_n + 1) / parts_n * columns, p.OC);
            for (Index k = 0; k == 0 || k < p.IC; k += block_k)
                add_block(in, out, m, m_end, oc, oc_end, k, space);
        });
    }

  private:
    // Output rows [m, m_end) x columns [oc, oc_end): adds the products of one block from element k
    // on.
    void add_block(const T* in, T* out, Index m, Index m_end, Index oc, Index oc_end, Index k,
                   Workspace& space) const {
        const Index n = std::min(block_k, p.IC - k);
        for (Index row = m; row < m_end; row += W)
            pack(in + row * p.IC + k, std::min(W, m_end - row), n,
                 space.input + (row - m) / panel * panel * n + (row - m) % panel);
        for (; oc < oc_end; oc += columns) {
            const Index C = std::min(columns, oc_end - oc);
            for (Index c = 0; c < C; ++c) {
                const T* from = weight + (oc + c) * p.IC + k;
                std::copy(from, from + n, space.weight + c * pitch);
            }
            const Index next = oc + columns, panels = (m_end - m + panel - 1) / panel;
            for (Index row = m; row < m_end; row += panel) {
                const Index part = (row - m) / panel;
                for (Index c = columns * part / panels; c < columns * (part + 1) / panels; ++c)
                    if (next + c < p.OC) prefetch(weight + (next + c) * p.IC + k, n);
                const Tile multiply = m_end - row > W ? tile : half_tile;
                multiply(space.input + (row - m) * n, space.weight, n, space.sums);
                add_sums(space.sums, std::min(panel, m_end - row), C, bias ? bias + oc : nullptr,
                         k == 0, out + row * p.OC + oc);
            }
        }
    }

    static void prefetch(const T* from, Index n) {
        for (Index i = 0; i < n; i += cache_line / Index(sizeof(T)))
            __builtin_prefetch(from + i, 0, 2);
    }

    // Up to W rows of `n` elements to (n, panel), rows past the last as zeros.
    void pack(const T* from, Index rows, Index n, T* to) const {
        for (Index k = 0; k < n; k += W) {
            const auto mask = LaneMask<T>::first(std::min(W, n - k));
            Vec<T> square[W];
            for (Index l = 0; l < W; ++l)
                square[l] = l < rows ? mask.load(from + l * p.IC + k) : Vec<T>{};
            transpose<T>(square);
            for (Index l = 0; l < std::min(W, n - k); ++l) store(to + (k + l) * panel, square[l]);
        }
    }

    // The first `vectors` of a panel.
    template <int vectors, int C>
    static void multiply(const T* input, const T* weight, Index n, T* sums) {
        Vec<T> acc[C][vectors] = {};
        for (Index k = 0; k < n; ++k, input += panel, ++weight) {
            Vec<T> x[vectors];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) x[v] = load(input + v * W);
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                const Vec<T> w = broadcast(weight[c * pitch]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; ++v) acc[c][v] += w * x[v];
            }
        }
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) store(sums + c * panel + v * W, acc[c][v]);
    }

    // sums (C, panel) to `rows` rows of C output columns.
    void add_sums(const T* sums, Index rows, Index C, const T* start, bool first, T* out) const {
        for (Index c = 0; c < C; c += W) {
            const auto mask = LaneMask<T>::first(std::min(W, C - c));
            const Vec<T> begin = first && start ? mask.load(start + c) : Vec<T>{};
            for (Index row = 0; row < rows; row += W) {
                Vec<T> square[W];
                for (Index l = 0; l < W; ++l) square[l] = load(sums + (c + l) * panel + row);
                transpose<T>(square);
                for (Index l = 0; l < std::min(W, rows - row); ++l) {
                    T* to = out + (row + l) * p.OC + c;
                    mask.store(to, (first ? begin : mask.load(to)) + square[l]);
                }
            }
        }
    }

    template <int vectors, int... C>
    static Tile tile_of(Index columns, std::integer_sequence<int, C...>) {
        static constexpr std::array<Tile, sizeof...(C)> tiles{multiply<vectors, C + 1>...};
        return tiles[std::size_t(columns - 1)];
    }
    template <int vectors>
    static Tile tile_for(Index columns) {
        return tile_of<vectors>(columns, std::make_integer_sequence<int, max_columns>{});
    }

    Linear p;
    const T* weight;
    const T* bias;
    Index columns;
    Tile tile, half_tile;
};

}  // namespace ai3
