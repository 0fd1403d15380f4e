// Direct convolution with vectors along the pixels, for layers whose channels do not fill vectors
// or do not repay the transpose of a tile: depthwise ones, narrow groups, first layers.
//
// The image is read from a padded copy in which each row is split into as many phases as the
// stride,
//   copy[c][h][phase][i] = padded[c][h][i * stride_w + phase],
// so that under every element of the kernel the pixels of an output row lie side by side.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {

template <typename T>
class DirectPixelsPlan final : public Plan {
    static constexpr int W = lanes<T>;
    static constexpr int max_channels = accumulators >= 24 ? 8 : 4;
    static constexpr int tile_vectors(int channels) { return std::min(accumulators / channels, 8); }

  public:
    DirectPixelsPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem),
          copy(p),
          tiles((p.group_oc() + max_channels - 1) / max_channels),
          packed(pack(weights)),
          row_vectors((p.OW + W - 1) / W) {
        for (Index kh = 0; kh < p.KH; ++kh)
            for (Index kw = 0; kw < p.KW; ++kw)
                taps.push_back(kh * p.dilation_h * copy.row + copy.column(kw * p.dilation_w));
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        const Copy copy(p);
        return copy.bytes(p) * std::size_t(copy.per_thread(p) ? p.threads : 1);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        const bool streamed = streams<T>(p, out) && p.OW % W == 0 && epilogue.empty();
        const auto image_of = [&](Index i, Index c) {
            return input + (i * p.group_ic() + c) * p.IH * p.IW;
        };
        if (copy.per_thread(p)) {
            parallel_for(p.threads, p.N * p.groups, [&](Index i, int thread) {
                T* image = reinterpret_cast<T*>(workspace + std::size_t(thread) * copy.bytes(p));
                for (Index c = 0; c < p.group_ic(); ++c)
                    fill(image_of(i, c), image + c * copy.plane);
                run_rows(image, out, i, 0, p.OH, epilogue, streamed);
            });
            return;
        }
        T* image = reinterpret_cast<T*>(workspace);
        for (Index i = 0; i < p.N * p.groups; ++i) {
            parallel_for(p.threads, p.group_ic(),
                         [&](Index c, int) { fill(image_of(i, c), image + c * copy.plane); });
            const Index parts = p.threads == 1 ? 1 : std::min<Index>(4 * p.threads, p.OH);
            parallel_for(p.threads, parts, [&](Index part, int) {
                run_rows(image, out, i, p.OH * part / parts, p.OH * (part + 1) / parts, epilogue,
                         streamed);
            });
        }
    }

  private:
    // Geometry of the copy of one group's channels.
    struct Copy {
        Index stride, height, pitch, row, plane;

        explicit Copy(const Conv2d& p)
            : stride(p.stride_w),
              height(p.reach_h()),
              // The last vector of a row may read beyond it.
              pitch((p.reach_w() + stride - 1) / stride + W),
              row(std::min(stride, p.reach_w()) * pitch),
              plane(height * row) {}

        Index column(Index w) const { return w % stride * pitch + w / stride; }
        std::size_t bytes(const Conv2d& p) const {
            return align_up(std::size_t(checked_product(p.group_ic(), plane)) * sizeof(T));
        }
        // Whether there is so much to do that every thread copies for itself.
        bool per_thread(const Conv2d& p) const { return p.N * p.groups >= 2 * p.threads; }
    };

    // Copies one channel of the input.
    void fill(const T* from, T* to) const {
        for (Index h = 0; h < copy.height; ++h) {
            const Index ih = padded_source(h - p.pad_top, p.IH, p.padding_mode);
            for (Index phase = 0; phase * copy.pitch < copy.row; ++phase, to += copy.pitch) {
                if (ih < 0) {
                    std::fill(to, to + copy.pitch, T(0));
                    continue;
                }
                // Column i shows pixel i * stride + shift of the row.
                const T* row = from + ih * p.IW;
                const Index shift = phase - p.pad_left, stride = copy.stride;
                const auto column = [&](Index w) { return (w - shift + stride - 1) / stride; };
                const Index columns = copy.pitch - W;
                const Index begin = std::clamp<Index>(shift < 0 ? column(0) : 0, 0, columns);
                const Index end = std::clamp<Index>(column(p.IW), begin, columns);
                const auto border = [&](Index first, Index last) {
                    for (Index i = first; i < last; ++i) {
                        const Index w = i * stride + shift;
                        const Index iw =
                            w < p.IW + p.pad_right ? padded_source(w, p.IW, p.padding_mode) : -1;
                        to[i] = iw < 0 ? T(0) : row[iw];
                    }
                };
                border(0, begin);
                const T* inner = row + shift;
                if (stride == 1)
                    std::copy(inner + begin, inner + end, to + begin);
                else if (stride == 2)
                    for (Index i = begin; i < end; ++i) to[i] = inner[2 * i];
                else
                    for (Index i = begin; i < end; ++i) to[i] = inner[stride * i];
                border(end, columns);
                std::fill(to + columns, to + copy.pitch, T(0));
            }
        }
    }

    // Output rows [begin, end) of image and group i.
    void run_rows(const T* image, T* out, Index i, Index begin, Index end,
                  const Epilogue<T>& epilogue, bool streamed) const {
        const Index group = i % p.groups, plane = p.OH * p.OW;
        const Index K = p.group_ic() * p.KH * p.KW, padded_oc = tiles * max_channels;
        const T* bias = packed->template as<T>() + group * padded_oc;
        const T* weights = packed->template as<T>() + p.groups * padded_oc + group * padded_oc * K;
        out += i * p.group_oc() * plane;
        // A few rows stay in the cache for all tiles of channels.
        const Index step = std::max<Index>(1, 64 / row_vectors);
        for (Index row = begin; row < end; row += step)
            for (Index tile = 0; tile < tiles; ++tile) {
                const Index first = tile * max_channels;
                const Index count = std::min<Index>(max_channels, p.group_oc() - first);
                const Strip strip{
                    image,   weights + first * K,       bias + first, out + first * plane,
                    row,     std::min(row + step, end), count,        streamed,
                    epilogue};
                if (count > 4)
                    run_strip<8>(strip);
                else if (count > 2)
                    run_strip<4>(strip);
                else if (count > 1)
                    run_strip<2>(strip);
                else
                    run_strip<1>(strip);
            }
        if (streamed) stream_fence();
    }

    struct Strip {
        const T* image;
        const T* weights;
        const T* bias;
        T* out;
        Index begin, end, channels;
        bool streamed;
        const Epilogue<T>& epilogue;
    };

    // One vector of pixels: where it begins in the copy and in an output plane, how much of it is.
    struct Place {
        Index in, out;
        LaneMask<T> live;
    };

    template <int C>
    void run_strip(const Strip& s) const {
        if constexpr (C <= max_channels) {
            constexpr int V = tile_vectors(C);
            const Index count = (s.end - s.begin) * row_vectors;
            Place places[V];
            Index row = s.begin, column = 0;
            for (Index done = 0; done < count;) {
                const int n = int(std::min<Index>(V, count - done));
                for (int v = 0; v < n; ++v) {
                    places[v] = {row * p.stride_h * copy.row + column, row * p.OW + column,
                                 LaneMask<T>::first(std::min<Index>(W, p.OW - column))};
                    if ((column += W) >= p.OW) column = 0, ++row;
                }
                // A short tile computes its last vector more than once.
                for (int v = n; v < V; ++v) places[v] = places[n - 1];
                if (2 * n <= V)
                    tile<C, (V + 1) / 2>(s, places, n);
                else
                    tile<C, V>(s, places, n);
                done += n;
            }
        }
    }

    template <int C, int V>
    void tile(const Strip& s, const Place* places, int n) const {
        Vec<T> acc[C][V];
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) acc[c][v] = broadcast(s.bias[c]);
        const T* w = s.weights;
        const T* plane = s.image;
        const Index* tap = taps.data();
        const Index count = Index(taps.size()), IC = p.group_ic();
        Index at[V];
        for (int v = 0; v < V; ++v) at[v] = places[v].in;
        for (Index ic = 0; ic < IC; ++ic, plane += copy.plane)
            for (Index t = 0; t < count; ++t, w += C) {
                const T* in = plane + tap[t];
                Vec<T> x[V];
#pragma GCC unroll 8
                for (int v = 0; v < V; ++v) x[v] = load(in + at[v]);
#pragma GCC unroll 8
                for (int c = 0; c < C; ++c) {
                    const Vec<T> scalar = broadcast(w[c]);
#pragma GCC unroll 8
                    for (int v = 0; v < V; ++v) acc[c][v] += scalar * x[v];
                }
            }
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            if (c >= s.channels) break;
            T* out = s.out + c * p.OH * p.OW;
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
                T* at = out + places[v].out;
                if (s.streamed)
                    stream(at, acc[c][v]);
                else
                    places[v].live.store(at, acc[c][v]);
            }
        }
        if (s.epilogue.empty()) return;
        for (Index c = 0; c < s.channels; ++c)
            for (int v = 0; v < n; ++v)
                apply(s.epilogue, s.out + c * p.OH * p.OW + places[v].out, places[v].live);
    }

    // Bias, then weights as (group, tile, IC, KH, KW, channels of the tile); absent channels are
    // zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index K = p.group_ic() * p.KH * p.KW, padded_oc = tiles * max_channels;
        const std::size_t bytes = std::size_t(p.groups * padded_oc * (K + 1)) * sizeof(T);
        return weights.packed("direct by pixels", bytes, [&](Buffer& buffer) {
            T* bias = buffer.as<T>();
            T* to = bias + p.groups * padded_oc;
            const T* from_bias = weights.data<T>(1);
            const T* from = weights.data<T>(0);
            std::fill(bias, to, T(0));
            parallel_for(p.threads, p.groups * tiles, [&](Index i, int) {
                const Index group = i / tiles, first = i % tiles * max_channels;
                const Index count = std::min<Index>(max_channels, p.group_oc() - first);
                const Index oc = group * p.group_oc() + first;
                if (from_bias)
                    std::copy(from_bias + oc, from_bias + oc + count,
                              bias + group * padded_oc + first);
                T* block = to + i * max_channels * K;
                if (count == max_channels)
                    pack_tile<max_channels>(from + oc * K, K, count, block);
                else
                    pack_tile<0>(from + oc * K, K, count, block);
            });
        });
    }

    // From (count, K) to (K, width), of which COUNT, where it is not 0, are known.
    template <Index COUNT>
    static void pack_tile(const T* from, Index K, Index count, T* to) {
        const Index width = COUNT ? COUNT : count > 4 ? 8 : count > 2 ? 4 : count;
        for (Index k = 0; k < K; ++k, to += width)
            for (Index c = 0; c < width; ++c)
                to[c] = c < (COUNT ? COUNT : count) ? from[c * K + k] : T(0);
    }

    Conv2d p;
    Copy copy;
    Index tiles;
    std::shared_ptr<const Buffer> packed;
    Index row_vectors;
    std::vector<Index> taps;
};

}  // namespace ai3
