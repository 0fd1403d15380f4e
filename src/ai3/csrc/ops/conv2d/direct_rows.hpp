// Direct depthwise convolution of NCHW images with vectors along the rows: some output rows of one
// or two vectors stay in registers while the input rows go by, each loaded once for every element
// of a kernel's row. The image is read where it lies; lanes that fall into the padding are masked.
// Rows of a narrow image are loaded once and permuted for each element.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

template <typename T>
class DirectRowsPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr int R = accumulators >= 24 ? 4 : 2;  // output rows of a tile
    static constexpr int most_taps = 7;
    static constexpr int most_narrow = 5;                   // elements of a row of a kernel
    static constexpr bool permutes = sizeof(Vec<T>) == 64;  // in few instructions

  public:
    static bool fits(const Conv2d& p) {
        // Larger kernels of double go by vectors of pixels: too rare for code of their own.
        const bool large = p.dtype == DType::f32 && (p.KH == 5 || (p.KH == 7 && p.stride_h == 1));
        const bool kernel = p.KH == p.KW && (p.KH == 3 || large);
        const bool stride = p.stride_h == p.stride_w && (p.stride_h == 1 || p.stride_h == 2);
        return p.dense() && p.group_ic() == 1 && kernel && stride && p.dilation_h == 1 &&
               p.dilation_w == 1 && (!p.padded() || p.padding_mode == PaddingMode::zeros);
    }

    DirectRowsPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), weight(weights.data<T>(0)), bias(weights.data<T>(1)) {
        for (Index ow = 0; ow < p.OW; ow += W) columns.push_back(column_at(ow));
        for (Index kw = 0; narrow(p) && kw < p.KW; ++kw)
            for (Index l = 0; l < W; ++l) {
                const Index iw = l * p.stride_w + kw - p.pad_left;
                // Lanes behind the row are zero.
                taps[kw][l] = iw < 0 || iw > p.IW ? p.IW : iw;
            }
    }

    static std::size_t workspace_bytes(const Conv2d&) { return 0; }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        // Many planes are shared out in runs, as threads that take turns would write to the same
        // lines where planes meet; few planes are cut into rows.
        const Index planes = p.N * p.OC, wanted = p.threads == 1 ? 1 : 8 * p.threads;
        const Index runs = std::min(planes, wanted), blocks = (p.OH + R - 1) / R;
        const Index parts = std::clamp<Index>(wanted / planes, 1, blocks);
        parallel_for(p.threads, runs * parts, [&](Index i, int) {
            const Index run = i / parts, part = i % parts;
            const Index begin = blocks * part / parts * R;
            const Index end = std::min(blocks * (part + 1) / parts * R, p.OH);
            for (Index plane = planes * run / runs; plane < planes * (run + 1) / runs; ++plane) {
                const Index n = plane / p.OC, oc = plane % p.OC;
                const T* image = input + (n * p.IC + oc / p.group_oc()) * p.IH * p.IW;
                T* to = out + plane * p.OH * p.OW;
                with_kernel(
                    [&]<int K, int S>() { run_plane<K, S>(image, oc, to, begin, end, epilogue); });
            }
        });
    }

  private:
    // One vector of output columns: for each load (at stride 2 a pair of vectors serves two
    // elements of the kernel) the lanes inside of the image.
    struct Column {
        Index begin;
        bool whole;  // no load has lanes outside
        LaneMask<T> live;
        LaneMask<T> inside[most_taps + 1];
    };

    Column column_at(Index ow) const {
        Column c;
        c.begin = ow;
        c.live = LaneMask<T>::first(std::min(W, p.OW - ow));
        c.whole = true;
        const Index S = p.stride_w, loads = S == 1 ? p.KW : 2 * ((p.KW + 1) / 2);
        for (Index l = 0; l < loads; ++l) {
            const Index first = ow * S - p.pad_left + (S == 1 ? l : l / 2 * 2 + l % 2 * W);
            const Index low = std::clamp<Index>(-first, 0, W);
            const Index high = std::clamp<Index>(p.IW - first, low, W);
            c.inside[l] = LaneMask<T>((1u << high) - (1u << low));
            c.whole &= c.inside[l].bits() == LaneMask<T>::all;
        }
        return c;
    }

    // Whether a row of the output is one vector, and one of the input, with a zero behind it, one
    // or two that can be permuted.
    static bool narrow(const Conv2d& p) {
        return permutes && p.KW <= most_narrow && p.OW <= W && p.IW < 2 * W;
    }

    template <typename F>
    void with_kernel(F&& f) const {
        const bool one = p.stride_w == 1;
        if constexpr (sizeof(T) == sizeof(float)) {
            if (p.KW == 7) return f.template operator()<7, 1>();
            if (p.KW == 5)
                return one ? f.template operator()<5, 1>() : f.template operator()<5, 2>();
        }
        return one ? f.template operator()<3, 1>() : f.template operator()<3, 2>();
    }

    // Output rows [begin, end) of one plane.
    template <int K, int S>
    void run_plane(const T* image, Index oc, T* out, Index begin, Index end,
                   const Epilogue<T>& epilogue) const {
        const T* w = weight + oc * K * K;
        const T first = bias ? bias[oc] : T(0);
        const Index count = Index(columns.size());
        for (Index row = begin; row < end; row += R) {
            const Index rows = std::min<Index>(R, end - row);
            if constexpr (permutes && K <= most_narrow)
                if (narrow(p)) {
                    if (p.IW < W)
                        narrow_tile<K, S, 1>(image, w, first, out, row, rows, epilogue);
                    else
                        narrow_tile<K, S, 2>(image, w, first, out, row, rows, epilogue);
                    continue;
                }
            for (Index c = 0; c < count;) {
                const Column* column = &columns[std::size_t(c)];
                if (c + 1 < count && column[0].whole && column[1].whole) {
                    tile<K, S, 2, true>(image, w, first, out, row, rows, column, epilogue);
                    c += 2;
                } else {
                    if (column->whole)
                        tile<K, S, 1, true>(image, w, first, out, row, rows, column, epilogue);
                    else
                        tile<K, S, 1, false>(image, w, first, out, row, rows, column, epilogue);
                    ++c;
                }
            }
        }
    }

    template <bool WHOLE>
    static Vec<T> load_lanes(const T* p, LaneMask<T> inside) {
        if constexpr (WHOLE)
            return in_register(load(p));
        else
            return inside.load(p);
    }

    template <int K, int S, int V, bool WHOLE>
    void tile(const T* image, const T* w, T first, T* out, Index row, Index rows,
              const Column* columns, const Epilogue<T>& epilogue) const {
        Vec<T> acc[R][V];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[r][v] = broadcast(first);
        const T* from = image + columns->begin * S - p.pad_left;
        const Index top = row * S - p.pad_top;
#pragma GCC unroll 16
        for (int i = 0; i < (R - 1) * S + K; ++i) {
            if (top + i < 0 || top + i >= p.IH || i > (rows - 1) * S + K - 1) continue;
            const T* in = from + (top + i) * p.IW;
#pragma GCC unroll 8
            for (int kw = 0; kw < K; kw += S) {
                Vec<T> x[V][2];
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) {
                    const LaneMask<T>* inside = columns[v].inside + kw;
                    x[v][0] = load_lanes<WHOLE>(in + v * W * S + kw, inside[0]);
                    if constexpr (S == 2) {
                        x[v][1] = load_lanes<WHOLE>(in + v * W * S + kw + W, inside[1]);
                        deinterleave<T>(x[v][0], x[v][1]);
                    }
                }
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    const int kh = i - r * S;
                    if (kh < 0 || kh >= K) continue;
#pragma GCC unroll 2
                    for (int phase = 0; phase < S; ++phase) {
                        if (kw + phase >= K) continue;
                        const Vec<T> scalar = broadcast(w[kh * K + kw + phase]);
#pragma GCC unroll 2
                        for (int v = 0; v < V; ++v) acc[r][v] += scalar * x[v][phase];
                    }
                }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            if (r >= rows) break;
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                T* at = out + (row + r) * p.OW + columns[v].begin;
                columns[v].live.store(at, acc[r][v]);
            }
        }
        if (epilogue.empty()) return;
        for (Index r = 0; r < rows; ++r)
            for (int v = 0; v < V; ++v)
                apply(epilogue, out + (row + r) * p.OW + columns[v].begin, columns[v].live);
    }

    // A row of the input is V vectors.
    template <int K, int S, int V>
    void narrow_tile(const T* image, const T* w, T first, T* out, Index row, Index rows,
                     const Epilogue<T>& epilogue) const {
        Vec<T> acc[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[r] = broadcast(first);
        const auto last = LaneMask<T>::first(p.IW - (V - 1) * W);
        const Index top = row * S - p.pad_top;
#pragma GCC unroll 16
        for (int i = 0; i < (R - 1) * S + K; ++i) {
            if (top + i < 0 || top + i >= p.IH || i > (rows - 1) * S + K - 1) continue;
            const T* in = image + (top + i) * p.IW;
            const Vec<T> end = last.load(in + (V - 1) * W), begin = V == 1 ? end : load(in);
#pragma GCC unroll 8
            for (int kw = 0; kw < K; ++kw) {
                const Vec<T> x = in_register(shuffle<T>(begin, end, taps[kw]));
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    const int kh = i - r * S;
                    if (kh >= 0 && kh < K) acc[r] += broadcast(w[kh * K + kw]) * x;
                }
            }
        }
        const auto live = LaneMask<T>::first(p.OW);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            if (r >= rows) break;
            T* at = out + (row + r) * p.OW;
            live.store(at, acc[r]);
            if (!epilogue.empty()) apply(epilogue, at, live);
        }
    }

    Conv2d p;
    const T* weight;
    const T* bias;
    std::vector<Column> columns;
    VecIndex<T> taps[most_narrow] = {};
};

}  // namespace ai3
