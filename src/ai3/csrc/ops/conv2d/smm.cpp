// Scalar-matrix multiplication with zero packing: the output is a sum of KH *
// KW * IC shifted sub-matrices of the input, each multiplied by one scalar
// weight. A tile of output channels x vectors of pixels stays in registers.
// Input and weights are read where they lie, lanes that fall into the padding
// are masked; there is no workspace.
//
// Ofir, Ben-Artzi, "SMM-Conv: Scalar Matrix Multiplication with Zero Packing
// for Accelerated Convolution", CVPRW'22, arXiv 2411.15659.

#include <cmath>

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"

namespace ai3 {
namespace {

template <typename T>
class SmmPlan final : public Plan {
    static constexpr int W = lanes<T>;
    static constexpr int PV = 3;
    static constexpr int OCT = accumulators >= 24 ? 8 : 4;
    static constexpr int max_taps = 128;

    // How the lanes of a tile lie in the input: whole vectors, vectors with lanes
    // outside of the image, the same with every second or fourth pixel, or anything
    // (other strides, padding by mirrored or repeated pixels).
    enum class Access { whole, masked, second, fourth, gathered };

    // For at most max_taps positions of the kernel: where in an input plane the
    // lanes lie.
    struct Taps {
        Access access;
        int count;
        Index offset[max_taps][PV];
        LaneMask<T> mask[max_taps][PV];
        std::uint64_t bits[max_taps][PV];
        std::int32_t index[max_taps][PV][W];
    };

  public:
    SmmPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), weight(weights.data<T>(0)), bias(weights.data<T>(1)) {
        // Where rows of input and output have the same pitch a vector may run over
        // a row's end.
        flat = p.OW == p.IW && p.stride_h == 1 && p.stride_w == 1;
        row_pixels = flat ? p.OH * p.OW : p.OW;
        row_vectors = (row_pixels + W - 1) / W;
        vectors = flat ? row_vectors : p.OH * row_vectors;
        group_tiles = (p.group_oc() + OCT - 1) / OCT;
    }

    static double cost(const Conv2d& p) {
        const bool flat = p.OW == p.IW && p.stride_h == 1 && p.stride_w == 1;
        const double vectors = double(p.N) * (flat ? std::ceil(double(p.OH * p.OW) / W)
                                                   : double(p.OH) * std::ceil(double(p.OW) / W));
        const double taps = double(p.KH * p.KW), K = double(p.group_ic()) * taps;
        const double whole = double(p.group_oc() / OCT * OCT), single = double(p.group_oc() % OCT);
        const bool regular = p.stride_w == 1 || p.stride_w == 2 || p.stride_w == 4;
        const double steps = !regular          ? 8 * (whole + single)
                             : p.stride_w == 1 ? 1.09 * whole + 2.2 * single
                                               : 1.43 * whole + 4.3 * single;
        const double tiles = whole / OCT + single;
        const double work = double(p.groups) * vectors * (K * steps + 286.0 / PV * tiles) +
                            51 * vectors * taps + 30 * awaited_vectors(p);
        const double weights = double(p.OC) * K;
        const double images = double(p.N) * double(p.OC * p.OH * p.OW + p.IC * p.IH * p.IW);
        return work / p.threads + (0.083 * weights + 0.024 * images) * sizeof(T);
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const bool streamed = streams<T>(p, out) && row_pixels % W == 0;
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        const Index units = p.groups * group_tiles, tiles = (vectors + PV - 1) / PV;
        const Index parts =
            p.threads == 1 ? 1 : std::clamp<Index>(8 * p.threads / (p.N * tiles), 1, units);
        parallel_for(p.threads, p.N * tiles * parts, [&](Index i, int) {
            const Index part = i % parts, first = i / parts % tiles * PV, n = i / parts / tiles;
            const T* image = input + n * p.IC * p.IH * p.IW;
            T* to = out + n * p.OC * p.OH * p.OW;
            const Index begin = units * part / parts, end = units * (part + 1) / parts;
            if (first + PV <= vectors)
                run_pixels<PV>(image, to, first, begin, end, streamed, epilogue);
            else
                for (Index v = first; v < vectors; ++v)
                    run_pixels<1>(image, to, v, begin, end, streamed, epilogue);
        });
    }

  private:
    // The vectors [first, first + V) of pixels for the tiles [begin, end) of
    // output channels.
    template <int V>
    void run_pixels(const T* image, T* out, Index first, Index begin, Index end, bool streamed,
                    const Epilogue<T>& epilogue) const {
        Index at[V];
        LaneMask<T> live[V];
        for (int v = 0; v < V; ++v) {
            const Index row = (first + v) / row_vectors, pixel = (first + v) % row_vectors * W;
            at[v] = row * row_pixels + pixel;
            live[v] = LaneMask<T>::first(std::min<Index>(W, row_pixels - pixel));
        }
        const Index taps_in_all = p.KH * p.KW, plane = p.IH * p.IW, out_plane = p.OH * p.OW;
        Taps taps;
        if (taps_in_all <= max_taps) find_taps<V>(taps, at, live, 0);
        for (Index unit = begin; unit < end; ++unit) {
            const Index group = unit / group_tiles, oc_in_group = unit % group_tiles * OCT;
            const Index count = std::min<Index>(OCT, p.group_oc() - oc_in_group);
            const T* in = image + group * p.group_ic() * plane;
            for (Index c = 0; c < count; c += count == OCT ? OCT : 1) {
                const Index oc = group * p.group_oc() + oc_in_group + c;
                const int channels = count == OCT ? OCT : 1;
                Vec<T> acc[OCT * V];
                for (int o = 0; o < channels; ++o)
                    for (int v = 0; v < V; ++v)
                        acc[o * V + v] = bias ? broadcast(bias[oc + o]) : Vec<T>{};
                for (Index tap = 0; tap < taps_in_all; tap += max_taps) {
                    if (taps_in_all > max_taps) find_taps<V>(taps, at, live, tap);
                    const T* w = weight + oc * p.group_ic() * taps_in_all + tap;
                    if (channels == OCT)
                        reduce<V, OCT>(taps, in, w, acc);
                    else
                        reduce<V, 1>(taps, in, w, acc);
                }
                for (int o = 0; o < channels; ++o)
                    for (int v = 0; v < V; ++v) {
                        T* pixels = out + (oc + o) * out_plane + at[v];
                        const Vec<T> result = epilogue(acc[o * V + v], pixels, live[v]);
                        if (streamed)
                            stream(pixels, result);
                        else
                            live[v].store(pixels, result);
                    }
            }
        }
        if (streamed) stream_fence();
    }

    template <int V, int C>
    void reduce(const Taps& taps, const T* in, const T* w, Vec<T>* acc) const {
        switch (taps.access) {
            case Access::whole:
                return reduce_with<V, C, Access::whole>(taps, in, w, acc);
            case Access::masked:
                return reduce_with<V, C, Access::masked>(taps, in, w, acc);
            case Access::second:
                return reduce_with<V, C, Access::second>(taps, in, w, acc);
            case Access::fourth:
                return reduce_with<V, C, Access::fourth>(taps, in, w, acc);
            case Access::gathered:
                return reduce_with<V, C, Access::gathered>(taps, in, w, acc);
        }
    }

    template <int V, int C, Access access>
    void reduce_with(const Taps& taps, const T* in, const T* w, Vec<T>* total) const {
        const Index plane = p.IH * p.IW, taps_in_all = p.KH * p.KW;
        const Index oc_stride = p.group_ic() * taps_in_all, IC = p.group_ic();
        const int count = taps.count;
        Vec<T> acc[C][V];
#pragma GCC unroll 8
        for (int o = 0; o < C; ++o)
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) acc[o][v] = total[o * V + v];
        for (Index ic = 0; ic < IC; ++ic, in += plane, w += taps_in_all)
            for (int t = 0; t < count; ++t) {
                Vec<T> x[V];
#pragma GCC unroll 3
                for (int v = 0; v < V; ++v) {
                    if constexpr (access == Access::whole)
                        x[v] = load(in + taps.offset[t][v]);
                    else if constexpr (access == Access::masked)
                        x[v] = taps.mask[t][v].load(in + taps.offset[t][v]);
                    else if constexpr (access == Access::second)
                        x[v] = load_strided<T, 2>(in + taps.offset[t][v], taps.bits[t][v]);
                    else if constexpr (access == Access::fourth)
                        x[v] = load_strided<T, 4>(in + taps.offset[t][v], taps.bits[t][v]);
                    else
                        x[v] = gather(in, taps.index[t][v]);
                }
#pragma GCC unroll 8
                for (int o = 0; o < C; ++o) {
                    const Vec<T> scalar = broadcast(w[o * oc_stride + t]);
#pragma GCC unroll 3
                    for (int v = 0; v < V; ++v) acc[o][v] += scalar * x[v];
                }
            }
#pragma GCC unroll 8
        for (int o = 0; o < C; ++o)
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) total[o * V + v] = acc[o][v];
    }

    template <int V>
    void find_taps(Taps& taps, const Index* at, const LaneMask<T>* live, Index first) const {
        taps.count = int(std::min<Index>(max_taps, p.KH * p.KW - first));
        const bool regular = p.stride_w == 1 || p.stride_w == 2 || p.stride_w == 4;
        bool whole = p.stride_w == 1, zeros = regular;
        for (int t = 0; t < taps.count; ++t) {
            const Index h = (first + t) / p.KW * p.dilation_h - p.pad_top;
            const Index w = (first + t) % p.KW * p.dilation_w - p.pad_left;
            for (int v = 0; v < V && zeros; ++v) {
                const unsigned bits = inside(at[v], live[v].bits(), h, w);
                taps.offset[t][v] =
                    (at[v] / p.OW * p.stride_h + h) * p.IW + at[v] % p.OW * p.stride_w + w;
                taps.mask[t][v] = LaneMask<T>(bits);
                taps.bits[t][v] = 0;
                for (int l = 0; l < W && p.stride_w > 1 && regular; ++l)
                    taps.bits[t][v] |= std::uint64_t{bits >> l & 1} << (l * p.stride_w);
                whole &= bits == LaneMask<T>::all;
                // What other padding shows lies elsewhere.
                zeros &= bits == live[v].bits() || p.padding_mode == PaddingMode::zeros;
            }
        }
        taps.access = !zeros            ? Access::gathered
                      : p.stride_w == 2 ? Access::second
                      : p.stride_w == 4 ? Access::fourth
                      : whole           ? Access::whole
                                        : Access::masked;
        if (!zeros) find_lanes<V>(taps, at, live, first);
    }

    // The live lanes of the vector at output pixel `at` whose input, `h` below
    // and `w` to the right, lies inside of the image. Lanes beyond the end of a
    // row are in the next one.
    unsigned inside(Index at, unsigned live, Index h, Index w) const {
        unsigned bits = 0;
        Index oh = at / p.OW, ow = at % p.OW;
        for (Index lane = 0; lane < W; ++oh, ow = 0) {
            const Index end = std::min<Index>(W, lane + p.OW - ow), ih = oh * p.stride_h + h;
            if (ih >= 0 && ih < p.IH) {
                // Columns of the output before the first that sees pixel `iw` or one after it.
                const auto column = [&](Index iw) {
                    return (std::max<Index>(iw - w, 0) + p.stride_w - 1) / p.stride_w;
                };
                const Index low = std::clamp(lane - ow + column(0), lane, end);
                const Index high = std::clamp(lane - ow + column(p.IW), low, end);
                bits |= (1u << high) - (1u << low);
            }
            lane = end;
        }
        return bits & live;
    }

    template <int V>
    void find_lanes(Taps& taps, const Index* at, const LaneMask<T>* live, Index first) const {
        for (int t = 0; t < taps.count; ++t) {
            const Index h = (first + t) / p.KW * p.dilation_h - p.pad_top;
            const Index w = (first + t) % p.KW * p.dilation_w - p.pad_left;
            for (int v = 0; v < V; ++v) {
                Index oh = at[v] / p.OW, ow = at[v] % p.OW;
                for (int l = 0; l < W; ++l) {
                    Index source = -1;
                    if (live[v].bits() >> l & 1) {
                        const Index ih = padded_source(oh * p.stride_h + h, p.IH, p.padding_mode);
                        const Index iw = padded_source(ow * p.stride_w + w, p.IW, p.padding_mode);
                        if (ih >= 0 && iw >= 0) source = ih * p.IW + iw;
                    }
                    taps.index[t][v][l] = std::int32_t(source);
                    if (++ow == p.OW) ow = 0, ++oh;
                }
            }
        }
    }

    Conv2d p;
    const T* weight;
    const T* bias;
    bool flat;
    Index row_pixels, row_vectors, vectors, group_tiles;
};

class Smm final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "smm"; }

    std::string refusal(const Conv2d& p) const override {
        if (p.IH * p.IW >= (Index{1} << 31)) return "an input plane has 2^31 elements or more";
        return refuse_layouts(p);
    }

    // Fitted to measurements on Zen 4, cycles. Channels that do not fill a tile go one at a time;
    // strided pixels take more loads than multiply-adds; a byte of weights and images costs the
    // same on any number of threads.
    double cost(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) { return SmmPlan<decltype(zero)>::cost(p); });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<SmmPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<Conv2d, Smm> registered;

}  // namespace
}  // namespace ai3
