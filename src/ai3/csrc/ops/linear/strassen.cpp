// Strassen's matrix product (1969) in the form of Winograd (1971), one level: seven products of
// quarters of the operands, and of sums of quarters, instead of eight. Sums of the weights are made
// for a panel of columns at a time, and the seven products of a register tile follow each other, so
// that what they are added up to never leaves the nearest cache (the idea of Huang et al.,
// "Strassen's Algorithm Reloaded", SC 2016).

#include <array>
#include <cmath>

#include "core/peak.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/epilogue.hpp"
#include "kernels/gather_channels.hpp"
#include "kernels/sums.hpp"
#include "ops/linear/op.hpp"

namespace ai3 {
namespace {

// The product of the (M, K) rows of a sample by the transpose of the (N, K) weights.
struct Product {
    Index samples, M, K, N;

    // Rows of different samples, the first dimension of an input of three or more, are not mixed.
    explicit Product(const Linear& p)
        : samples(p.shape.size() > 2 && p.M > p.shape[0] ? p.shape[0] : 1),
          M(p.M / samples),
          K(p.IC),
          N(p.OC) {}
};

// Sums mix pairs of rows of a sample and of columns, so that errors are relative to the larger of
// the two. Tiles with a pair whose magnitudes are too different, or not finite, are computed by the
// eight products.
template <typename T>
class StrassenPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index width = max_vectors * W;
    static constexpr Index most_rows = max_pixels(max_vectors);
    static constexpr int products = 7;
    static constexpr Index most_chunk = 208;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }
    static constexpr Index round_up(Index n, Index to) { return divide(n, to) * to; }

  public:
    StrassenPlan(const Linear& problem, const WeightSet& weights)
        : linear(problem), p(problem), s(problem), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Linear& p) {
        return Sizes(p).own_bytes() * std::size_t(p.threads);
    }

    // In cycles: multiply-adds of vectors, sums of weights, what is written, sums of the input; a
    // little more, as it asks more of the caches than other ways. Infinite where that is more than
    // the multiply-adds of eight products. Threads do not change it, so that they do not change
    // results.
    static double cost(const Linear& linear) {
        constexpr double sum_cycles = 34, write_cycles = 20, left_cycles = 120;
        const Product p(linear);
        const Sizes s(linear);
        const double depth = double(s.parts * s.part), panels = double(s.panels);
        const double chunks = double(p.samples * s.chunks), rows = double(s.upper);
        const double multiplied = panels * depth * products * rows * max_vectors;
        const double rest = panels * depth * sum_cycles +
                            panels * 4 * rows * max_vectors * double(s.parts) * write_cycles +
                            rows * depth / W * left_cycles;
        const double most = double(linear.M) * double(p.K) * double(p.N) / double(W);
        const double cycles = 1.02 * chunks * (multiplied + multiply_adds_a_cycle() * rest);
        return cycles < most ? cycles : std::numeric_limits<double>::infinity();
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = linear.epilogue(inputs, out);
        parallel_for(linear.threads, s.tasks, [&](Index i, int thread) {
            const Index range = i % s.ranges, chunk = i / s.ranges;
            const Index begin = chunk % s.chunks * s.chunk, rows = std::min(s.chunk, p.M - begin);
            const Index m = chunk / s.chunks * p.M + begin;
            T* own = reinterpret_cast<T*>(workspace + std::size_t(thread) * s.own_bytes());
            run_panels(s.panels * range / s.ranges, s.panels * (range + 1) / s.ranges, rows,
                       in + m * p.K, own, out + m * p.N, epilogue);
        });
    }

  private:
    struct Sizes {
        // Rows that are computed together; the upper half of them, the left half of the depth and
        // of the columns, which may be larger than the other halves.
        Index chunk, chunks, upper, depth, columns;
        // The depth in parts, the columns in panels of `width` and ranges of panels.
        Index part, parts, panels, ranges;
        Index tasks;

        explicit Sizes(const Linear& linear) {
            const Product p(linear);
            // The left operands of a part take 1 MB, its right operands of a panel 0.4: half as
            // much would stay in a second-level cache, but every sum be written twice as often.
            constexpr Index most_depth = 1536 / sizeof(T);
            depth = round_up(divide(std::max<Index>(p.K, 1), 2), W);
            part = round_up(divide(depth, divide(depth, most_depth)), W);
            parts = divide(depth, part);
            chunk = divide(p.M, divide(p.M, most_chunk));
            chunks = divide(p.M, chunk);
            upper = divide(chunk, 2);
            columns = round_up(divide(p.N, 2), width);
            panels = columns / width;
            // Ranges of a chunk make its left operands anew, so they are to be few.
            const Index threads = linear.threads, all = p.samples * chunks;
            ranges = threads > 1 && all < 4 * threads ? std::min(panels, threads) : 1;
            tasks = all * ranges;
        }
        // Rows of the left operands of a part.
        Index pitch() const { return part + W; }
        Index operand() const { return upper * pitch(); }
        // Of a quarter of a part of a panel. Not a power of two, for the sets of the caches.
        Index quarter() const { return part * width + 5 * W; }
        // Where the bias of a panel and its weights of a part lie among the packed weights.
        Index bias_at(Index panel) const { return round_up(panels, W) + 2 * panel * width; }
        Index weights_at(Index of_part, Index panel) const {
            return bias_at(panels) + (of_part * panels + panel) * 4 * quarter();
        }
        std::size_t own_bytes() const {
            return align_up(
                std::size_t(products * operand() + 4 * quarter() + 4 * most_rows * width) *
                sizeof(T));
        }
    };

    static double magnitude(const T* x, Index n) {
        return sum_of(x, n, [](Vec<T> v) { return v < T(0) ? -v : v; });
    }

    static bool alike(double a, double b) {
        constexpr double most = 16;
        return std::isfinite(a + b) && a <= most * b && b <= most * a;
    }

    // For each tile of a chunk whether its rows may be mixed.
    std::array<bool, most_chunk / 2> mixed_tiles(const T* in, Index rows) const {
        const Index upper = divide(rows, 2), tiles = divide(upper, most_rows);
        std::array<bool, most_chunk / 2> mixed;
        for (Index t = 0; t < tiles; ++t) {
            const Index end = std::min(upper * (t + 1) / tiles, rows - upper);
            Index row = upper * t / tiles;
            while (row < end &&
                   alike(magnitude(in + row * p.K, p.K), magnitude(in + (upper + row) * p.K, p.K)))
                ++row;
            mixed[std::size_t(t)] = row >= end;
        }
        return mixed;
    }

    // The left operands of a part of the depth: A11, A12, S2 = A21 + A22 - A11, S3 = A11 - A21,
    // S1 = A21 + A22, S4 = A12 - S2 and A22 of `rows` rows, to (products, upper, pitch).
    void add_input(const T* in, Index rows, Index part, T* to) const {
        const Index upper = divide(rows, 2), begin = part * s.part;
        const Index end = std::min(begin + s.part, s.depth);
        for (Index i = 0; i < upper; ++i) {
            const T* row[2] = {in + i * p.K, upper + i < rows ? in + (upper + i) * p.K : nullptr};
            for (Index k = begin; k < begin + s.part; k += W) {
                const auto quarter = [&](int lower, Index first) {
                    const Index some = k < end ? std::min(p.K - first - k, W) : 0;
                    if (!row[lower] || some <= 0) return Vec<T>{};
                    return LaneMask<T>::first(some).load(row[lower] + first + k);
                };
                const Vec<T> a11 = quarter(0, 0), a12 = quarter(0, s.depth);
                const Vec<T> a21 = quarter(1, 0), a22 = quarter(1, s.depth);
                const Vec<T> s1 = a21 + a22, s2 = s1 - a11;
                const Vec<T> operands[products] = {a11, a12, s2, a11 - a21, s1, a12 - s2, a22};
                T* at = to + i * s.pitch() + k - begin;
                for (int r = 0; r < products; ++r) store(at + r * s.operand(), operands[r]);
            }
        }
    }

    // The right operands T2 = B22 - T1, T3 = B22 - B12, T1 = B12 - B11 and B21 - T2 of a part of a
    // panel, to `to`.
    void add_weights(const T* b, T* to) const {
        const Index quarter = s.quarter();
        for (Index i = 0; i < s.part * width; i += W, b += W, to += W) {
            const Vec<T> b11 = load(b), b12 = load(b + quarter);
            const Vec<T> b21 = load(b + 2 * quarter), b22 = load(b + 3 * quarter);
            const Vec<T> t1 = b12 - b11, t2 = b22 - t1;
            store(to, t2);
            store(to + quarter, b22 - b12);
            store(to + 2 * quarter, t1);
            store(to + 3 * quarter, b21 - t2);
        }
    }

    void run_panels(Index first, Index last, Index rows, const T* in, T* left, T* out,
                    const Epilogue<T>& epilogue) const {
        const Index upper = divide(rows, 2), tiles = divide(upper, most_rows);
        const auto mixed = mixed_tiles(in, rows);
        const T* from = packed->template as<T>();
        T* own = left + products * s.operand();
        for (Index part = 0; part < s.parts; ++part) {
            add_input(in, rows, part, left);
            for (Index panel = first; panel < last; ++panel) {
                const T* bias = from + s.bias_at(panel);
                const T* weights = from + s.weights_at(part, panel);
                const bool mixed_panel = from[panel] != T(0);
                if (mixed_panel) add_weights(weights, own);
                for (Index t = 0; t < tiles; ++t) {
                    const Index row = upper * t / tiles, n = upper * (t + 1) / tiles - row;
                    const Index below = std::min(n, rows - upper - row);
                    const auto write = [&](Index lower, Index half, std::array<const T*, 3> sums) {
                        write_rows(
                            sums, lower ? below : n, part == 0 ? bias + half * width : nullptr,
                            half * s.columns + panel * width, out + (lower * upper + row) * p.N,
                            part == s.parts - 1 ? &epilogue : nullptr);
                    };
                    if (mixed_panel && mixed[std::size_t(t)]) {
                        multiply(left + row * s.pitch(), n, weights, own, t == tiles - 1, write);
                    } else {
                        multiply_plainly(in + row * p.K, n, part, weights, 0, own, write);
                        if (below > 0)
                            multiply_plainly(in + (upper + row) * p.K, below, part, weights, 1, own,
                                             write);
                    }
                }
            }
        }
    }

    // Four tiles of `n` rows whose left operands begin at `left`. Sums are kept behind the right
    // operands in `own`; `write` takes those that make up a quarter of the output. The `last` tiles
    // of a panel fetch the weights of the next.
    template <typename Write>
    void multiply(const T* left, Index n, const T* weights, T* own, bool last, Write write) const {
        const Index quarter = s.quarter(), square = most_rows * width;
        const T *b11 = weights, *b21 = b11 + 2 * quarter, *b22 = b21 + quarter;
        const T *t2 = own, *t3 = t2 + quarter, *t1 = t3 + quarter, *b21_t2 = t1 + quarter;
        T* a = own + 4 * quarter;
        T *b = a + square, *c = b + square, *d = c + square;
        TileReduction<T> reduction{1, 1, 1, s.part, 0, 0, 0, s.pitch()};
        const ChannelTile<T> tile = find_channel_tile(reduction, max_vectors, n);
        const auto product = [&](int i, const T* right, const T* start, T* to) {
            if (last)
                reduction.ahead = (weights + (4 + i / 2) * quarter - right) * Index(sizeof(T));
            tile(reduction, left + i * s.operand(), right, start, to);
        };
        product(0, b11, zeros, a);
        product(1, b21, zeros, b);
        write(0, 0, {a, b});  // A11 B11 + A12 B21
        product(2, t2, nullptr, a);
        product(3, t3, zeros, c);
        product(4, t1, zeros, d);
        write(1, 1, {a, c, d});  // A11 B11 + S2 T2 + S3 T3 + S1 T1
        product(5, b22, nullptr, d);
        write(0, 1, {a, d});  // A11 B11 + S2 T2 + S1 T1 + S4 B22
        product(6, b21_t2, nullptr, c);
        write(1, 0, {a, c});  // A11 B11 + S2 T2 + S3 T3 + A22 (B21 - T2)
    }

    // The upper or the lower rows of four tiles as sums of two products each, of the input's rows
    // from `in` on.
    template <typename Write>
    void multiply_plainly(const T* in, Index n, Index part, const T* weights, Index lower, T* own,
                          Write write) const {
        T *a = own + 4 * s.quarter(), *b = a + most_rows * width;
        for (Index half = 0; half < 2; ++half) {
            for (Index right = 0; right < 2; ++right) {
                const Index end =
                    std::min(right ? p.K : s.depth, right * s.depth + (part + 1) * s.part);
                const Index begin = std::min(end, right * s.depth + part * s.part);
                const TileReduction<T> reduction{1, 1, 1, end - begin, 0, 0, 0, p.K};
                find_channel_tile(reduction, max_vectors, n)(
                    reduction, in + begin, weights + (2 * right + half) * s.quarter(), zeros,
                    right ? b : a);
            }
            write(lower, half, {a, b});
        }
    }

    // Writes up to three sums of `n` rows, the columns from `column` on, and adds the bias or,
    // where that is null, what the output holds.
    void write_rows(std::array<const T*, 3> sums, Index n, const T* bias, Index column, T* out,
                    const Epilogue<T>* epilogue) const {
        for (Index v = 0; v < width && column + v < p.N; v += W) {
            T* first = out + column + v;
            const auto add_up = [&](auto load_from, auto store_to) {
                for (Index i = 0; i < n; ++i) {
                    T* to = first + i * p.N;
                    const Index at = i * width + v;
                    Vec<T> x = load(sums[0] + at) + load(sums[1] + at);
                    if (sums[2]) x += load(sums[2] + at);
                    store_to(to, x + (bias ? load(bias + v) : load_from(to)));
                }
            };
            if (column + v + W <= p.N) {
                add_up([](const T* at) { return load(at); }, [](T* at, Vec<T> x) { store(at, x); });
                if (epilogue) apply_to_vectors(*epilogue, first, p.N, n);
            } else {
                const auto live = LaneMask<T>::first(p.N - column - v);
                add_up([&](const T* at) { return live.load(at); },
                       [&](T* at, Vec<T> x) { live.store(at, x); });
                for (Index i = 0; epilogue && i < n; ++i) apply(*epilogue, first + i * p.N, live);
            }
        }
    }

    // For each panel whether its columns may be mixed, and the bias of its left and right columns;
    // then for each part and panel the quarters B11, B12, B21 and B22 of the weights as (part,
    // width). Absent ones are zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const std::size_t bytes = std::size_t(s.weights_at(s.parts, 0)) * sizeof(T);
        return weights.packed("strassen", bytes, [&](Buffer& buffer) {
            T* to = buffer.as<T>();
            const T* from_bias = weights.data<T>(1);
            const T* from = weights.data<T>(0);
            parallel_for(linear.threads, s.panels, [&](Index panel, int) {
                to[panel] = mixed_columns(from, panel) ? T(1) : T(0);
                std::fill_n(to + s.bias_at(panel), 2 * width, T(0));
                for (Index part = 0; part < s.parts; ++part)
                    std::fill_n(to + s.weights_at(part, panel), 4 * s.quarter(), T(0));
                for (Index half = 0; half < 2; ++half) {
                    const Index column = half * s.columns + panel * width;
                    const Index n = std::clamp<Index>(p.N - column, 0, width);
                    if (from_bias)
                        std::copy_n(from_bias + column, n, to + s.bias_at(panel) + half * width);
                    for (Index k = 0; k < p.K; k += W) {
                        const Index lower = k >= s.depth, at = k - lower * s.depth;
                        T* rows = to + s.weights_at(at / s.part, panel) +
                                  (2 * lower + half) * s.quarter() + at % s.part * width;
                        for (Index c = 0; c < n; c += W)
                            gather_channels(from + (column + c) * p.K + k, p.K,
                                            std::min(W, p.K - k), std::min(W, n - c), rows + c,
                                            width);
                    }
                }
            });
        });
    }

    bool mixed_columns(const T* weight, Index panel) const {
        const Index left = panel * width, right = left + s.columns;
        for (Index c = 0; c < width && right + c < p.N; ++c)
            if (!alike(magnitude(weight + (left + c) * p.K, p.K),
                       magnitude(weight + (right + c) * p.K, p.K)))
                return false;
        return true;
    }

    static constexpr T zeros[width] = {};

    Linear linear;
    Product p;
    Sizes s;
    std::shared_ptr<const Buffer> packed;
};

class Strassen final : public Algorithm<Linear> {
  public:
    std::string_view name() const override { return "strassen"; }

    std::string refusal(const Linear& linear) const override {
        const Product p(linear);
        const Index W = channel_block(linear.dtype);
        if (p.M >= 2 && p.K > W && p.N > max_vectors * W) return {};
        const std::string K = std::to_string(p.K);
        return "a product of " + std::to_string(p.M) + "x" + K + " by " + K + "x" +
               std::to_string(p.N) + " is too small to be cut";
    }

    // Infinite where rows are samples.
    double cost(const Linear& p) const override {
        if (p.shape.size() < 3) return std::numeric_limits<double>::infinity();
        return with_type(p.dtype, [&](auto zero) { return StrassenPlan<decltype(zero)>::cost(p); });
    }

    std::size_t workspace_bytes(const Linear& p) const override {
        return with_type(
            p.dtype, [&](auto zero) { return StrassenPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Linear& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<StrassenPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<Linear, Strassen> registered;

}  // namespace
}  // namespace ai3
