// Linear for few input rows: dot products of input and weight as they lie, both contiguous along
// IC. A tile of R input rows x C weight rows keeps its sums in registers, a vector for each.
// Nothing is packed and the weight is read once, from its beginning to its end, which is what
// limits this.
#pragma once

#include <array>

#include "core/simd.hpp"
#include "ops/linear/op.hpp"

namespace ai3 {

// Fewer rows read the weight as it lies, more are worth a packed one.
constexpr Index few_rows = 24;

template <typename T>
class RowsPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr int max_sums = accumulators >= 25 ? 25 : 12;
    static constexpr int max_rows = accumulators >= 25 ? 5 : 3;
    static constexpr int max_columns = 8;
    static constexpr int columns_for(int rows) { return std::min(max_columns, max_sums / rows); }

    // While it adds up `n` elements a tile fetches `rows` rows of the weight, of which it is one of
    // the next tile's turn to be used, into L2.
    struct Ahead {
        const T* from;
        Index rows;
    };
    using Tile = void (*)(const T* in, const T* weight, Index pitch, Index n, Ahead ahead, T* sums);

  public:
    RowsPlan(const Linear& problem, const WeightSet& weights)
        : p(problem), weight(weights.data<T>(0)), bias(weights.data<T>(1)) {
        // The block of the input that tiles go over again and again is to stay in L2.
        constexpr Index input_elements = (384 << 10) / sizeof(T);
        const Index most = std::max<Index>(input_elements / p.M, 32 * W);
        const Index blocks = std::max<Index>((p.IC + most - 1) / most, 1);
        block = (p.IC / blocks / W + 1) * W;
        row_tiles = (p.M + max_rows - 1) / max_rows;
        columns = columns_for(int((p.M + row_tiles - 1) / row_tiles));
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        constexpr Index grain_bytes = 1 << 16, task_bytes = 1 << 18;
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        const Index bytes = p.OC * p.IC * Index(sizeof(T));
        const Index wanted =
            std::max(bytes / task_bytes, std::min<Index>(8 * p.threads, bytes * p.M / grain_bytes));
        const Index tiles = (p.OC + columns - 1) / columns,
                    tasks = std::clamp<Index>(wanted, 1, tiles);
        parallel_for(p.threads, tasks, [&](Index i, int) {
            const Index begin = tiles * i / tasks * columns;
            const Index end = std::min(tiles * (i + 1) / tasks * columns, p.OC);
            for (Index k = 0; k == 0 || k < p.IC; k += block)
                add_block(in, out, begin, end, k, std::min(block, p.IC - k));
            if (!epilogue.empty())
                for (Index m = 0; m < p.M; ++m)
                    finish(epilogue, out + m * p.OC + begin, end - begin);
        });
    }

  private:
    static void finish(const Epilogue<T>& epilogue, T* out, Index n) {
        for (Index i = 0; i < n; i += W)
            apply(epilogue, out + i, LaneMask<T>::first(std::min(W, n - i)));
    }

    // The output columns [begin, end) of all rows: adds the products of elements [k, k + n).
    void add_block(const T* in, T* out, Index begin, Index end, Index k, Index n) const {
        for (Index oc = begin; oc < end; oc += columns) {
            const Index C = std::min<Index>(columns, end - oc);
            const T* w = weight + oc * p.IC + k;
            const T* next = w + C * p.IC;
            const Index next_rows = std::min(C, p.OC - oc - C);
            for (Index i = 0; i < row_tiles; ++i) {
                const Index m = p.M * i / row_tiles, R = p.M * (i + 1) / row_tiles - m;
                const Index first = next_rows * i / row_tiles;
                const Ahead ahead{next + first * p.IC, next_rows * (i + 1) / row_tiles - first};
                T sums[max_sums + W];
                tiles[std::size_t(R - 1)][std::size_t(C - 1)](in + m * p.IC + k, w, p.IC, n, ahead,
                                                              sums);
                for (Index r = 0; r < R; ++r)
                    for (Index c = 0; c < C; ++c) {
                        T& to = out[(m + r) * p.OC + oc + c];
                        const T before = k ? to : bias ? bias[oc + c] : T(0);
                        to = before + sums[r * C + c];
                    }
            }
        }
    }

    template <int R, int C>
    static void tile(const T* in, const T* weight, Index pitch, Index n, Ahead ahead, T* sums) {
        constexpr int groups = (R * C + int(W) - 1) / int(W);
        Vec<T> acc[groups * W] = {};
        const auto add = [&](auto load_from) {
            Vec<T> w[C];
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) w[c] = load_from(weight + c * pitch);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const Vec<T> x = load_from(in + r * pitch);
#pragma GCC unroll 8
                for (int c = 0; c < C; ++c) acc[r * C + c] += x * w[c];
            }
        };
        Index k = 0;
        for (; k + W <= n; k += W) {
            for (Index i = 0; i < ahead.rows; ++i)
                __builtin_prefetch(ahead.from + i * pitch + k, 0, 2);
            add([&](const T* row) { return load(row + k); });
        }
        const auto rest = LaneMask<T>::first(n - k);
        if (k < n) add([&](const T* row) { return rest.load(row + k); });
#pragma GCC unroll 8
        for (int g = 0; g < groups; ++g)
            store(sums + g * W, fold<T>(acc + g * W, [](Vec<T> a, Vec<T> b) { return a + b; }));
    }

    // tiles[R - 1][C - 1], as far as C goes for R.
    template <int R, int... C>
    static constexpr auto tiles_of(std::integer_sequence<int, C...>) {
        return std::array<Tile, max_columns>{tile<R, C + 1>...};
    }
    template <int... R>
    static constexpr auto all_tiles(std::integer_sequence<int, R...>) {
        return std::array{
            tiles_of<R + 1>(std::make_integer_sequence<int, columns_for(R + 1)>{})...};
    }
    static constexpr auto tiles = all_tiles(std::make_integer_sequence<int, max_rows>{});

    Linear p;
    const T* weight;
    const T* bias;
    Index block, row_tiles, columns;
};

}  // namespace ai3
