// Linear for few input rows: dot products of input and weight as they lie, both contiguous along
// IC. A tile of R input rows x C weight rows keeps its sums in registers, a vector for each.
// Nothing is packed and the weight is read once, from its beginning to its end, which is what
// limits this.
#pragma once

#include <array>

#include "core/simd.hpp"
#include "kernels/convert.hpp"
#include "ops/linear/op.hpp"

namespace ai3 {

// Fewer rows read the weight as it lies, more are worth a packed one.
constexpr Index few_rows = 24;

// From T to O: sums are in float for bfloat16, the output may be either.
template <typename T, typename O = T>
class RowsPlan final : public Plan {
    using Sum = Lane<T>;
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
    using Tile = void (*)(const T* in, const T* weight, Index pitch, Index n, Ahead ahead,
                          Sum* sums);

  public:
    static constexpr bool in_place = std::is_same_v<O, Sum>;

    // Of sums, where the output does not hold them.
    static std::size_t workspace_bytes(const Linear& p) {
        return in_place ? 0 : std::size_t(p.M * p.OC) * sizeof(Sum);
    }

    RowsPlan(const Linear& problem, const WeightSet& weights) : p(problem) {
        take(weights);
        // The block of the input that tiles go over again and again is to stay in L2.
        constexpr Index input_elements = (384 << 10) / sizeof(T);
        const Index most = std::max<Index>(input_elements / p.M, 32 * W);
        const Index blocks = std::max<Index>((p.IC + most - 1) / most, 1);
        block = (p.IC / blocks / W + 1) * W;
        row_tiles = (p.M + max_rows - 1) / max_rows;
        columns = columns_for(int((p.M + row_tiles - 1) / row_tiles));
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        constexpr Index grain_bytes = 1 << 16, task_bytes = 1 << 18;
        const T* in = static_cast<const T*>(inputs[0]);
        O* out = static_cast<O*>(output);
        Sum* sums;
        if constexpr (in_place)
            sums = out;
        else
            sums = reinterpret_cast<Sum*>(workspace);
        const Epilogue<O> epilogue = p.epilogue(inputs, out);
        const Index bytes = p.OC * p.IC * Index(sizeof(T));
        const Index wanted =
            std::max(bytes / task_bytes, std::min<Index>(8 * p.threads, bytes * p.M / grain_bytes));
        const Index tiles = (p.OC + columns - 1) / columns,
                    tasks = std::clamp<Index>(wanted, 1, tiles);
        parallel_for(p.threads, tasks, [&](Index i, int) {
            const Index begin = tiles * i / tasks * columns;
            const Index end = std::min(tiles * (i + 1) / tasks * columns, p.OC);
            for (Index k = 0; k == 0 || k < p.IC; k += block)
                add_block(in, sums, begin, end, k, std::min(block, p.IC - k));
            if (!in_place || !epilogue.empty())
                for (Index m = 0; m < p.M; ++m)
                    finish(epilogue, sums + m * p.OC + begin, out + m * p.OC + begin, end - begin);
        });
    }

  private:
    static void finish(const Epilogue<O>& epilogue, const Sum* sums, O* out, Index n) {
        for (Index i = 0; i < n; i += W) {
            const Index some = std::min(W, n - i);
            const auto live = LaneMask<O>::first(some);
            const Vec<Sum> sum = LaneMask<Sum>::first(some).load(sums + i);
            live.store(out + i, epilogue(sum, out + i, live));
        }
    }

    // The weight as it lies or, of float for bfloat16, a rounded copy.
    void take(const WeightSet& weights) {
        if constexpr (std::is_same_v<T, bfloat16>) {
            with_weights<T>(weights, [&](const auto* from, const auto* from_bias) {
                if constexpr (std::is_same_v<decltype(from), const T*>) {
                    weight = from;
                } else {
                    const Index K = p.OC * p.IC;
                    packed = weights.packed(
                        "rows of bfloat16", std::size_t(K) * sizeof(T),
                        [&](Buffer& to) { convert(from, to.as<T>(), K, p.threads); });
                    weight = packed->template as<T>();
                }
                if (from_bias) biases.assign(from_bias, from_bias + p.OC);
            });
            bias = biases.empty() ? nullptr : biases.data();
        } else {
            weight = weights.data<T>(0), bias = weights.data<T>(1);
        }
    }

    // The output columns [begin, end) of all rows: adds the products of elements [k, k + n).
    void add_block(const T* in, Sum* out, Index begin, Index end, Index k, Index n) const {
        for (Index oc = begin; oc < end; oc += columns) {
            const Index C = std::min<Index>(columns, end - oc);
            const T* w = weight + oc * p.IC + k;
            const T* next = w + C * p.IC;
            const Index next_rows = std::min(C, p.OC - oc - C);
            for (Index i = 0; i < row_tiles; ++i) {
                const Index m = p.M * i / row_tiles, R = p.M * (i + 1) / row_tiles - m;
                const Index first = next_rows * i / row_tiles;
                const Ahead ahead{next + first * p.IC, next_rows * (i + 1) / row_tiles - first};
                Sum sums[max_sums + W];
                tiles[std::size_t(R - 1)][std::size_t(C - 1)](in + m * p.IC + k, w, p.IC, n, ahead,
                                                              sums);
                for (Index r = 0; r < R; ++r)
                    for (Index c = 0; c < C; ++c) {
                        Sum& to = out[(m + r) * p.OC + oc + c];
                        const Sum before = k ? to : bias ? bias[oc + c] : Sum(0);
                        to = before + sums[r * C + c];
                    }
            }
        }
    }

    template <int R, int C>
    static void tile(const T* in, const T* weight, Index pitch, Index n, Ahead ahead, Sum* sums) {
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
    std::shared_ptr<const Buffer> packed;
    const T* weight;
    const Sum* bias;
    std::vector<Sum> biases;  // where they are converted
    Index block, row_tiles, columns;
};

}  // namespace ai3
