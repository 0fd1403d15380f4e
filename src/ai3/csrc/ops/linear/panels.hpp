// Linear for many input rows: a blocked matrix product. Rows of one factor (input or weight) are
// the lanes of vectors, rows of the other are broadcast: a tile of V vectors x C rows stays in
// registers while each step multiplies V vectors by C scalars. A block of the first factor is
// packed, transposed, into L2. The second is copied C rows at a time, to a pitch at which they do
// not share cache sets, as rows of 2^n elements would.
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
    static constexpr Index max_scalars = accumulators / V;
    // Elements along IC and panels in a block.
    static constexpr Index block_k = 4096 / sizeof(T);
    static constexpr Index block_panels = 256 / panel;
    static constexpr Index pitch = block_k + cache_line / sizeof(T);

    struct Workspace {
        alignas(cache_line) T packed[block_panels * panel * block_k];
        T scalars[max_scalars * pitch];
        T sums[(max_scalars + W) * panel];
    };

    using Tile = void (*)(const T* packed, const T* scalars, Index n, T* sums);

  public:
    PanelsPlan(const Linear& problem, const WeightSet& weights)
        : p(problem), weight(weights.data<T>(0)), bias(weights.data<T>(1)) {
        weight_lanes = has_weight_lanes(p);
        lane_rows = weight_lanes ? p.OC : p.M;
        scalar_rows = weight_lanes ? p.M : p.OC;
        const Index tiles = (scalar_rows + max_scalars - 1) / max_scalars;
        tile_rows = (scalar_rows + tiles - 1) / tiles;
        tile = tile_for<V>(tile_rows);
        half_tile = tile_for<1>(tile_rows);
    }

    // Lanes of weight rows are lanes of the output, which otherwise has to be transposed, and input
    // rows need not fill up vectors; but the packing is worth its time for fewer weight rows than
    // there are input rows only.
    static bool has_weight_lanes(const Linear& p) {
        return p.M >= p.OC && (p.OC % W == 0 || p.OC >= 8 * W);
    }

    static std::size_t workspace_bytes(const Linear& p) {
        return std::size_t(p.threads) * sizeof(Workspace);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        const T* lane_side = weight_lanes ? weight : in;
        const T* scalar_side = weight_lanes ? in : weight;
        const Epilogue<T> epilogue = p.epilogue(inputs, static_cast<T*>(output));
        const Index panels = (lane_rows + panel - 1) / panel;
        const Index tiles = (scalar_rows + tile_rows - 1) / tile_rows;
        // Every thread gets as much work as the others: of the panels where they divide so.
        const Index threads = p.threads;
        Index lane_parts = (panels + block_panels - 1) / block_panels, scalar_parts = 1;
        if (panels % threads == 0)
            lane_parts = (lane_parts + threads - 1) / threads * threads;
        else if (lane_parts < 4 * threads)
            scalar_parts = std::min(threads, tiles);
        parallel_for(p.threads, lane_parts * scalar_parts, [&](Index i, int thread) {
            const Index part = i / scalar_parts, scalar_part = i % scalar_parts;
            const Index begin = panels * part / lane_parts * panel;
            const Index end = std::min(panels * (part + 1) / lane_parts * panel, lane_rows);
            const Index first = tiles * scalar_part / scalar_parts * tile_rows;
            const Index last =
                std::min(tiles * (scalar_part + 1) / scalar_parts * tile_rows, scalar_rows);
            for (Index k = 0; k == 0 || k < p.IC; k += block_k)
                add_block(lane_side, scalar_side, begin, end, first, last, k, epilogue,
                          static_cast<T*>(output), reinterpret_cast<Workspace*>(workspace)[thread]);
        });
    }

  private:
    // The products of one block along IC, from element k on, of the rows [begin, end) of lanes and
    // [row, last) of scalars.
    void add_block(const T* lane_side, const T* scalar_side, Index begin, Index end, Index row,
                   Index last, Index k, const Epilogue<T>& epilogue, T* out,
                   Workspace& space) const {
        const Index n = std::min(block_k, p.IC - k), panels = (end - begin + panel - 1) / panel;
        const Finish finish{k == 0, k + n == p.IC && !epilogue.empty() ? &epilogue : nullptr};
        for (Index lane = begin; lane < end; lane += W)
            pack(lane_side + lane * p.IC + k, std::min(W, end - lane), n,
                 space.packed + (lane - begin) / panel * panel * n + (lane - begin) % panel);
        for (; row < last; row += tile_rows) {
            const Index C = std::min(tile_rows, last - row);
            const T* from = scalar_side + row * p.IC + k;
            for (Index c = 0; c < C; ++c)
                std::copy(from + c * p.IC, from + c * p.IC + n, space.scalars + c * pitch);
            const T* next = from + C * p.IC;
            const Index next_rows = std::min(tile_rows, last - row - C);
            for (Index i = 0; i < panels; ++i) {
                for (Index c = next_rows * i / panels; c < next_rows * (i + 1) / panels; ++c)
                    fetch(next + c * p.IC, n);
                const Index lane = begin + i * panel, count = std::min(panel, end - lane);
                (count > W ? tile : half_tile)(space.packed + i * panel * n, space.scalars, n,
                                               space.sums);
                if (weight_lanes)
                    add_rows(space.sums, C, count, finish, lane, out + row * p.OC + lane);
                else
                    add_columns(space.sums, count, C, finish, row, out + lane * p.OC + row);
            }
        }
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

    // sums (C, panel) of the first `vectors` of a panel's vectors and C rows of scalars.
    template <int vectors, int C>
    static void multiply(const T* packed, const T* scalars, Index n, T* sums) {
        Vec<T> acc[C][vectors] = {};
        for (Index k = 0; k < n; ++k, packed += panel, ++scalars) {
            Vec<T> x[vectors];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) x[v] = load(packed + v * W);
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                const Vec<T> scalar = broadcast(scalars[c * pitch]);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; ++v) acc[c][v] += scalar * x[v];
            }
        }
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) store(sums + c * panel + v * W, acc[c][v]);
    }

    // What is done to sums beside adding them up: the first are added to the bias, the last are
    // those that have an epilogue, if there is one.
    struct Finish {
        bool first;
        const Epilogue<T>* epilogue;
    };

    // A vector of output elements, from column `oc` on.
    void add(LaneMask<T> mask, Vec<T> sum, Finish finish, Index oc, T* out) const {
        if (!finish.first)
            sum += mask.load(out);
        else if (bias)
            sum += mask.load(bias + oc);
        if (finish.epilogue) sum = (*finish.epilogue)(sum, out, mask);
        mask.store(out, sum);
    }

    // sums (rows, panel) to as many rows and `columns` columns of the output, from column `oc` on.
    void add_rows(const T* sums, Index rows, Index columns, Finish finish, Index oc, T* out) const {
        for (Index c = 0; c < columns; c += W) {
            const auto mask = LaneMask<T>::first(std::min(W, columns - c));
            for (Index row = 0; row < rows; ++row)
                add(mask, load(sums + row * panel + c), finish, oc + c, out + row * p.OC + c);
        }
    }

    // The same of sums (columns, panel), which are transposed on their way.
    void add_columns(const T* sums, Index rows, Index columns, Finish finish, Index oc,
                     T* out) const {
        for (Index c = 0; c < columns; c += W) {
            const auto mask = LaneMask<T>::first(std::min(W, columns - c));
            for (Index row = 0; row < rows; row += W) {
                Vec<T> square[W];
                for (Index l = 0; l < W; ++l) square[l] = load(sums + (c + l) * panel + row);
                transpose<T>(square);
                for (Index l = 0; l < std::min(W, rows - row); ++l)
                    add(mask, square[l], finish, oc + c, out + (row + l) * p.OC + c);
            }
        }
    }

    template <int vectors, int... C>
    static Tile tile_of(Index rows, std::integer_sequence<int, C...>) {
        static constexpr std::array<Tile, sizeof...(C)> tiles{multiply<vectors, C + 1>...};
        return tiles[std::size_t(rows - 1)];
    }
    template <int vectors>
    static Tile tile_for(Index rows) {
        return tile_of<vectors>(rows, std::make_integer_sequence<int, max_scalars>{});
    }

    Linear p;
    const T* weight;
    const T* bias;
    bool weight_lanes;
    Index lane_rows, scalar_rows, tile_rows;
    Tile tile, half_tile;
};

}  // namespace ai3
