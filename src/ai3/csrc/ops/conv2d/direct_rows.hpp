// Direct depthwise convolution of NCHW images with vectors along the rows. The output rows under an
// input row stay in registers while it goes by: each row of the image is read once, where it lies,
// for all elements of the kernel. Lanes that fall into the padding are masked. Rows of a narrow
// image are loaded once and permuted for each element.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

template <typename T>
class DirectRowsPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr int most_taps = 7;
    static constexpr int most_narrow = 5;  // elements of a row of a kernel
    // Whether lanes are permuted and masked in few instructions.
    static constexpr bool permutes = sizeof(Vec<T>) == 64;

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
        constexpr Index least_rows = 4;
        const Index runs = std::min(planes, wanted);
        const Index parts =
            std::clamp<Index>(wanted / planes, 1, (p.OH + least_rows - 1) / least_rows);
        parallel_for(p.threads, runs * parts, [&](Index i, int) {
            const Index run = i / parts, part = i % parts;
            const Index begin = p.OH * part / parts, end = p.OH * (part + 1) / parts;
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
        if constexpr (permutes && K <= most_narrow)
            if (narrow(p))
                return p.IW < W ? narrow_rows<K, S, 1>(image, w, first, out, begin, end, epilogue)
                                : narrow_rows<K, S, 2>(image, w, first, out, begin, end, epilogue);
        constexpr bool pairs = 2 * under_way<K, S> <= accumulators;
        const Index count = Index(columns.size());
        for (Index c = 0; c < count; ++c) {
            const Column* column = &columns[std::size_t(c)];
            if constexpr (pairs)
                if (c + 1 < count && column[0].whole && column[1].whole) {
                    wide_rows<K, S, 2, true>(image, w, first, out, begin, end, column, epilogue);
                    ++c;
                    continue;
                }
            if (column->whole)
                wide_rows<K, S, 1, true>(image, w, first, out, begin, end, column, epilogue);
            else
                wide_rows<K, S, 1, false>(image, w, first, out, begin, end, column, epilogue);
        }
    }

    // Output rows that S neighbouring rows of the input are part of.
    template <int K, int S>
    static constexpr int under_way = (K + S - 1) / S;

    // V vectors of the output rows [begin, end), of which `out` is the place in row 0. `elements`
    // is called with where a row of the input begins at `from`, an element of the kernel's row and
    // x[V][S]: for this element and the next S - 1 the inputs of each lane.
    template <int K, int S, int V, typename Elements>
    void sum_rows(const T* from, const T* w, T first, T* out, Index begin, Index end,
                  const LaneMask<T> (&live)[V], const Epilogue<T>& epilogue,
                  Elements elements) const {
        constexpr int M = under_way<K, S>;
        const Index IH = p.IH, IW = p.IW, OW = p.OW, pad_top = p.pad_top;
        Vec<T> acc[M][V];  // of output rows row - M + 1 to row
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[m][v] = broadcast(first);
        // The first rows may have nothing of the image under them.
        const Index first_row = std::clamp<Index>(pad_top / S, begin, begin + M - 1);
        for (Index row = first_row; row < end + M - 1; ++row) {
#pragma GCC unroll 2
            for (int r = 0; r < S; ++r) {
                const Index ih = row * S - pad_top + r;
                if (ih < 0 || ih >= IH) continue;
                // The weights of larger kernels do not fit into registers.
                const T* weights = K > 3 ? read_anew(w) : w;
#pragma GCC unroll 8
                for (int kw = 0; kw < K; kw += S) {
                    Vec<T> x[V][S];
                    elements(from + ih * IW, kw, x);
#pragma GCC unroll 2
                    for (int phase = 0; phase < S; ++phase)
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m) {
                            const int kh = (M - 1 - m) * S + r;
                            if (kh >= K || kw + phase >= K) continue;
                            const Vec<T> scalar = broadcast(weights[kh * K + kw + phase]);
#pragma GCC unroll 2
                            for (int v = 0; v < V; ++v) acc[m][v] += scalar * x[v][phase];
                        }
                }
            }
            const Index whole = row - M + 1;
            if (whole >= begin)
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) {
                    T* at = out + whole * OW + v * W;
                    live[v].store(at, acc[0][v]);
                    if (!epilogue.empty()) apply(epilogue, at, live[v]);
                }
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
#pragma GCC unroll 8
                for (int m = 0; m + 1 < M; ++m) acc[m][v] = acc[m + 1][v];
                acc[M - 1][v] = broadcast(first);
            }
        }
    }

    // V vectors of columns; WHOLE: no load has lanes outside of the image.
    template <int K, int S, int V, bool WHOLE>
    void wide_rows(const T* image, const T* w, T first, T* out, Index begin, Index end,
                   const Column* columns, const Epilogue<T>& epilogue) const {
        constexpr int loads = S == 1 ? K : K + K % 2;
        LaneMask<T> live[V], inside[V][loads];
        for (int v = 0; v < V; ++v) {
            live[v] = columns[v].live;
            std::copy(columns[v].inside, columns[v].inside + loads, inside[v]);
        }
        const auto load_lanes = [&](const T* at, int v, int i) {
            return WHOLE ? in_register(load(at)) : inside[v][i].load(at);
        };
        const auto elements = [&](const T* in, int kw,
                                  Vec<T>(&x)[V][S]) __attribute__((always_inline)) {
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                x[v][0] = load_lanes(in + v * W * S + kw, v, kw);
                if constexpr (S == 2) {
                    x[v][1] = load_lanes(in + v * W * S + kw + W, v, kw + 1);
                    deinterleave<T>(x[v][0], x[v][1]);
                }
            }
        };
        sum_rows<K, S, V>(image + columns->begin * S - p.pad_left, w, first, out + columns->begin,
                          begin, end, live, epilogue, elements);
    }

    // A row of the input is `count` vectors.
    template <int K, int S, int count>
    void narrow_rows(const T* image, const T* w, T first, T* out, Index begin, Index end,
                     const Epilogue<T>& epilogue) const {
        VecIndex<T> tap[K];
        for (int kw = 0; kw < K; ++kw) tap[kw] = taps[kw];
        const LaneMask<T> live[1] = {LaneMask<T>::first(p.OW)};
        const auto last = LaneMask<T>::first(p.IW - (count - 1) * W);
        const auto elements = [&](const T* in, int kw,
                                  Vec<T>(&x)[1][S]) __attribute__((always_inline)) {
            const Vec<T> right = last.load(in + (count - 1) * W);
            const Vec<T> left = count == 1 ? right : load(in);
#pragma GCC unroll 2
            for (int phase = 0; phase < S; ++phase)
                if (kw + phase < K)
                    x[0][phase] = in_register(shuffle<T>(left, right, tap[kw + phase]));
        };
        sum_rows<K, S, 1>(image, w, first, out, begin, end, live, epilogue, elements);
    }

    Conv2d p;
    const T* weight;
    const T* bias;
    std::vector<Column> columns;
    VecIndex<T> taps[most_narrow] = {};
};

}  // namespace ai3
