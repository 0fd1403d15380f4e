// Direct convolution: the loop nest itself, register-tiled. A tile of V vectors of output channels
// x PX neighbouring pixels stays in registers over the whole reduction; each step multiplies V
// packed weight vectors by PX broadcast input values. No intermediate matrix is formed.
//
// Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures",
// SC'18, arXiv 1808.05567; Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct
// Convolutions", ICML'18, arXiv 1809.10170.

#include <array>

#include "core/simd.hpp"
#include "ops/conv2d/direct_pixels.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {
namespace {

constexpr int max_vectors = 2;
constexpr int max_pixels(int vectors) {
    return vectors == 1 ? (accumulators > 14 ? 14 : accumulators) : accumulators / vectors;
}

// Strides are in elements of the image that the kernel reads.
template <typename T>
struct Reduction {
    Index IC, KH, KW;
    Index ic_stride, kh_stride, kw_stride, pixel_stride;
};

// The result, bias added, of V vectors of output channels x PX pixels, to `out` (PX, V * lanes).
// Weights are (IC, KH, KW, V * lanes). STEP is the pixel stride, 0: as `r` says.
template <typename T, int V, int PX, int STEP>
void tile(const Reduction<T>& r, const T* in, const T* weights, const T* bias, T* out) {
    constexpr int W = lanes<T>;
    const Index step = STEP ? STEP : r.pixel_stride;
    Vec<T> acc[V][PX];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p) acc[v][p] = load(bias + v * W);

    for (Index ic = 0; ic < r.IC; ++ic, in += r.ic_stride) {
        const T* row = in;
        for (Index kh = 0; kh < r.KH; ++kh, row += r.kh_stride) {
            const T* pixel = row;
            for (Index kw = 0; kw < r.KW; ++kw, pixel += r.kw_stride, weights += V * W) {
                Vec<T> w[V];
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) w[v] = load(weights + v * W);
#pragma GCC unroll 16
                for (int p = 0; p < PX; ++p) {
                    const Vec<T> x = broadcast(pixel[p * step]);
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) acc[v][p] += w[v] * x;
                }
            }
        }
    }

#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(out + (p * V + v) * W, acc[v][p]);
}

template <typename T>
using Tile = void (*)(const Reduction<T>&, const T*, const T*, const T*, T*);

// Tiles of neighbouring pixels, (pixels, channels), on their way to rows of single channels.
template <typename T>
class Strip {
    static constexpr Index W = lanes<T>;

  public:
    static constexpr Index capacity = 128;

    // `out` is the first pixel of the first of `channels` planes.
    Strip(T* out, Index plane, int vectors, Index channels, bool streamed)
        : out_(out), plane_(plane), vectors_(vectors), channels_(channels), streamed_(streamed) {}

    // Room for `pixels` more, the first `again` of which replace the last that were added.
    T* add(Index pixels, Index again) {
        if (held_ + pixels > capacity) write(false);
        // A pixel that has left the strip is written once more.
        if (again > held_) {
            out_ -= again - held_;
            held_ = again;
        }
        T* room = memory_ + (held_ - again) * vectors_ * W;
        held_ += pixels - again;
        return room;
    }

    void finish() {
        write(true);
        if (streamed_) stream_fence();
    }

  private:
    // Writes what is held; until the end only up to a vector's boundary, so that stores are whole.
    void write(bool all) {
        Index done = 0;
        const Index ahead = Index(reinterpret_cast<std::uintptr_t>(out_) / sizeof(T) % W);
        for (Index n; done < held_; done += n) {
            n = std::min(done == 0 ? W - ahead : W, held_ - done);
            if (!all && (done + ahead + n) % W) break;
            write_vectors(done, n);
        }
        std::copy(memory_ + done * vectors_ * W, memory_ + held_ * vectors_ * W, memory_);
        out_ += done;
        held_ -= done;
    }

    void write_vectors(Index begin, Index n) {
        for (int v = 0; v < vectors_; ++v) {
            Vec<T> square[W];
#pragma GCC unroll 16
            for (int l = 0; l < W; ++l)
                square[l] = load(memory_ + ((begin + l) * vectors_ + v) * W);
            transpose<T>(square);
            T* to = out_ + v * W * plane_ + begin;
            const Index rows = std::min<Index>(W, channels_ - v * W);
            const auto mask = LaneMask<T>::first(n);
            if (streamed_ && n == W && rows == W) {
#pragma GCC unroll 16
                for (int l = 0; l < W; ++l) stream(to + l * plane_, square[l]);
                continue;
            }
#pragma GCC unroll 16
            for (int l = 0; l < W; ++l) {
                if (l >= rows) break;
                mask.store(to + l * plane_, square[l]);
            }
        }
    }

    T* out_;
    Index plane_;
    int vectors_;
    Index channels_;
    bool streamed_;
    Index held_ = 0;
    alignas(cache_line) T memory_[(capacity + W) * max_vectors * W];
};

template <typename T, int V, int STEP, int... I>
constexpr auto tiles_by_pixels(std::integer_sequence<int, I...>) {
    return std::array<Tile<T>, sizeof...(I)>{tile<T, V, I + 1, STEP>...};
}

template <typename T, int V>
Tile<T> tile_for(Index pixels, Index step) {
    using Pixels = std::make_integer_sequence<int, max_pixels(V)>;
    static constexpr auto unit = tiles_by_pixels<T, V, 1>(Pixels{});
    static constexpr auto two = tiles_by_pixels<T, V, 2>(Pixels{});
    static constexpr auto any = tiles_by_pixels<T, V, 0>(Pixels{});
    return (step == 1 ? unit : step == 2 ? two : any)[std::size_t(pixels - 1)];
}

// How the output channels of one group are cut into blocks of at most max_vectors vectors.
struct ChannelBlocks {
    Index width, count, group_vectors;

    explicit ChannelBlocks(const Conv2d& p, Index lanes)
        : width(max_vectors * lanes),
          count((p.group_oc() + width - 1) / width),
          group_vectors((p.group_oc() + lanes - 1) / lanes) {}

    int vectors(Index block) const {
        return int(std::min<Index>(max_vectors, group_vectors - block * max_vectors));
    }
};

// Bias, then weights as (group, block, IC, KH, KW, vectors of the block), channels past the last
// zero.
template <typename T>
std::shared_ptr<const Buffer> pack(const Conv2d& p, const WeightSet& weights) {
    constexpr Index W = lanes<T>;
    const ChannelBlocks blocks(p, W);
    const Index K = p.group_ic() * p.KH * p.KW, padded_oc = blocks.group_vectors * W;
    const std::size_t bytes = std::size_t(p.groups * padded_oc * (K + 1)) * sizeof(T);
    return weights.packed("direct", bytes, [&](Buffer& buffer) {
        T* bias = buffer.as<T>();
        T* packed = bias + p.groups * padded_oc;
        const T* from_bias = weights.data<T>(1);
        const T* from = weights.data<T>(0);
        parallel_for(p.threads, p.groups * blocks.count, [&](Index i, int) {
            const Index g = i / blocks.count, block = i % blocks.count;
            const Index width = blocks.vectors(block) * W, first = block * blocks.width;
            T* to = packed + g * padded_oc * K + first * K;
            for (Index c = 0; c < width; ++c) {
                const bool real = first + c < p.group_oc();
                const Index oc = g * p.group_oc() + first + c;
                bias[g * padded_oc + first + c] = real && from_bias ? from_bias[oc] : T(0);
                for (Index k = 0; k < K; ++k) to[k * width + c] = real ? from[oc * K + k] : T(0);
            }
        });
    });
}

template <typename T>
class DirectPlan final : public Plan {
  public:
    DirectPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), image(p), blocks(p, lanes<T>), packed(pack<T>(p, weights)) {
        // A pointwise convolution sees one long row.
        const bool pointwise =
            p.KH == 1 && p.KW == 1 && p.stride_h == 1 && p.stride_w == 1 && !image.copied;
        rows = pointwise ? 1 : p.OH;
        row_pixels = pointwise ? p.OH * p.OW : p.OW;
        reduction = {p.group_ic(), p.KH,      p.KW, image.plane(), p.dilation_h * image.width,
                     p.dilation_w, p.stride_w};
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        for (Index n = 0; n < p.N; ++n) {
            const T* from = input + n * p.IC * p.IH * p.IW;
            if (image.copied) {
                T* copy = reinterpret_cast<T*>(workspace);
                parallel_for(p.threads, p.IC, [&](Index c, int) {
                    pad_plane(p, image, from + c * p.IH * p.IW, copy + c * image.plane());
                });
                from = copy;
            }
            run_image(from, out + n * p.OC * p.OH * p.OW);
        }
    }

  private:
    void run_image(const T* in, T* out) const {
        const bool streamed = streams<T>(p, out);
        const Index wanted = 4 * p.threads, channel_tasks = p.groups * blocks.count;
        const Index cuts = std::clamp<Index>((wanted + channel_tasks - 1) / channel_tasks, 1, 32);
        const Index units = rows == 1 ? row_pixels : rows;
        const Index parts = p.threads == 1 ? 1 : std::min(cuts, units);
        parallel_for(p.threads, channel_tasks * parts, [&](Index i, int) {
            const Index part = i % parts, block = i / parts % blocks.count;
            const Index begin = units * part / parts, end = units * (part + 1) / parts;
            const Index group = i / parts / blocks.count;
            if (rows == 1)
                run_block(in, out, group, block, 0, 1, begin, end, streamed);
            else
                run_block(in, out, group, block, begin, end, 0, row_pixels, streamed);
        });
    }

    // One block of output channels over rows [row_begin, row_end) x pixels [begin, end).
    void run_block(const T* in, T* out, Index group, Index block, Index row_begin, Index row_end,
                   Index begin, Index end, bool streamed) const {
        constexpr Index W = lanes<T>;
        const Index K = reduction.IC * p.KH * p.KW, padded_oc = blocks.group_vectors * W;
        const int vectors = blocks.vectors(block);
        const Index first = block * blocks.width;
        const T* bias = packed->template as<T>() + group * padded_oc + first;
        const T* weights =
            packed->template as<T>() + p.groups * padded_oc + (group * padded_oc + first) * K;
        const Index plane = p.OH * p.OW, count = std::min(vectors * W, p.group_oc() - first);
        in += group * reduction.IC * reduction.ic_stride;
        out += (group * p.group_oc() + first) * plane;

        // Even tiles; the last one is moved back to end with the row and computes some pixels
        // twice.
        const Index most = max_pixels(vectors), pixels = end - begin;
        const Index tiles = (pixels + most - 1) / most, width = (pixels + tiles - 1) / tiles;
        const Tile<T> run = vectors == 1 ? tile_for<T, 1>(width, reduction.pixel_stride)
                                         : tile_for<T, 2>(width, reduction.pixel_stride);
        Strip<T> strip(out + row_begin * p.OW + begin, plane, vectors, count, streamed);
        for (Index row = row_begin; row < row_end; ++row)
            for (Index done = 0; done < pixels; done += width) {
                const Index pixel = std::min(done, pixels - width);
                run(reduction, in + row * p.stride_h * image.width + (begin + pixel) * p.stride_w,
                    weights, bias, strip.add(width, done - pixel));
            }
        strip.finish();
    }

    Conv2d p;
    PaddedImage image;
    ChannelBlocks blocks;
    std::shared_ptr<const Buffer> packed;
    Reduction<T> reduction;
    Index rows, row_pixels;
};

// Whether vectors of pixels are the faster ones: lanes that do work, against the steps of a tile
// that a reduction of length K must repay (28 multiply-adds each by channels, 24 by pixels).
bool by_pixels(const Conv2d& p) {
    const auto filled = [&](Index n) {
        const Index W = Index(AI3_VECTOR_BYTES / size_of(p.dtype));
        return double(n) / double((n + W - 1) / W * W);
    };
    const double K = double(p.group_ic() * p.KH * p.KW);
    return (K + 2) / filled(p.OW) < (K + 10) / filled(p.group_oc());
}

class Direct final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            return by_pixels(p) ? DirectPixelsPlan<decltype(zero)>::workspace_bytes(p)
                                : PaddedImage(p).bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (by_pixels(p)) return std::make_unique<DirectPixelsPlan<T>>(p, weights);
            return std::make_unique<DirectPlan<T>>(p, weights);
        });
    }
};

const Register<Conv2d, Direct> registered;

}  // namespace
}  // namespace ai3
