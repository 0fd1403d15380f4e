// Direct convolution: the loop nest itself, register-tiled. A tile of V vectors of output channels
// x PX neighbouring pixels stays in registers over the whole reduction; each step multiplies V
// packed weight vectors by PX broadcast input values. No intermediate matrix is formed.
//
// Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures",
// SC'18, arXiv 1808.05567; Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct
// Convolutions", ICML'18, arXiv 1809.10170.

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "ops/conv2d/direct_pixels.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {
namespace {

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
        for (int v = 0; v < vectors_; ++v)
            store_channels(memory_ + (begin * vectors_ + v) * W, vectors_ * W, n, channels_ - v * W,
                           out_ + v * W * plane_ + begin, plane_, streamed_);
    }

    T* out_;
    Index plane_;
    int vectors_;
    Index channels_;
    bool streamed_;
    Index held_ = 0;
    alignas(cache_line) T memory_[(capacity + W) * max_vectors * W];
};

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
        const auto from = [&](Index n) { return input + n * p.IC * p.IH * p.IW; };
        const auto to = [&](Index n) { return out + n * p.OC * p.OH * p.OW; };
        const auto pad = [&](Index n, Index c, T* copy) {
            pad_plane(p, image, from(n) + c * p.IH * p.IW, copy + c * image.plane());
        };
        if (by_image(p)) {
            parallel_for(p.threads, p.N, [&](Index n, int thread) {
                T* copy = reinterpret_cast<T*>(workspace + std::size_t(thread) * bytes(p));
                if (image.copied)
                    for (Index c = 0; c < p.IC; ++c) pad(n, c, copy);
                run_image(image.copied ? copy : from(n), to(n), 1);
            });
            return;
        }
        T* copy = reinterpret_cast<T*>(workspace);
        for (Index n = 0; n < p.N; ++n) {
            if (image.copied) parallel_for(p.threads, p.IC, [&](Index c, int) { pad(n, c, copy); });
            run_image(image.copied ? copy : from(n), to(n), p.threads);
        }
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        return bytes(p) * std::size_t(by_image(p) ? p.threads : 1);
    }

  private:
    // Whether each thread takes whole images, so that none ever waits for another.
    static bool by_image(const Conv2d& p) { return p.N % p.threads == 0 || p.N >= 4 * p.threads; }
    static std::size_t bytes(const Conv2d& p) { return align_up(PaddedImage(p).bytes(p)); }

    void run_image(const T* in, T* out, int threads) const {
        const bool streamed = streams<T>(p, out);
        const Index wanted = 4 * threads, channel_tasks = p.groups * blocks.count;
        const Index cuts = std::clamp<Index>((wanted + channel_tasks - 1) / channel_tasks, 1, 32);
        const Index units = rows == 1 ? row_pixels : rows;
        const Index parts = threads == 1 ? 1 : std::min(cuts, units);
        parallel_for(threads, channel_tasks * parts, [&](Index i, int) {
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
        const Index step = reduction.pixel_stride;
        const ChannelTile<T> run = step == 1   ? find_channel_tile<T, 1>(vectors, width)
                                   : step == 2 ? find_channel_tile<T, 2>(vectors, width)
                                               : find_channel_tile<T, 0>(vectors, width);
        Strip<T> strip(out + row_begin * p.OW + begin, plane, vectors, count, streamed);
        // Narrow rows go some together, a part of the input channels at a time, so that its weights
        // are read from a near cache.
        constexpr Index near_bytes = Index{256} << 10;
        const Index channel_bytes = p.KH * p.KW * vectors * W * Index(sizeof(T));
        const Index depth = std::max<Index>(1, near_bytes / channel_bytes);
        if (tiles == 1 && depth < reduction.IC) {
            const Index together = Strip<T>::capacity / width;
            for (Index first_row = row_begin; first_row < row_end; first_row += together) {
                const Index count = std::min(together, row_end - first_row);
                T* room = strip.add(count * width, 0);
                for (Index ic = 0; ic < reduction.IC; ic += depth) {
                    Reduction<T> part = reduction;
                    part.IC = std::min(depth, reduction.IC - ic);
                    const T* from = in + ic * reduction.ic_stride + begin * p.stride_w;
                    for (Index r = 0; r < count; ++r)
                        run(part, from + (first_row + r) * p.stride_h * image.width,
                            weights + ic * p.KH * p.KW * vectors * W, ic == 0 ? bias : nullptr,
                            room + r * width * vectors * W);
                }
            }
            strip.finish();
            return;
        }
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

// Cycles of one thread, a multiply-add of a vector each, with vectors of channels and of pixels. A
// tile of 28 has to repay some steps' worth of loads, stores and transposes.
struct Costs {
    double by_channels, by_pixels;

    explicit Costs(const Conv2d& p) {
        const Index W = Index(AI3_VECTOR_BYTES / size_of(p.dtype));
        const auto vectors = [&](Index n) { return double((n + W - 1) / W); };
        const double K = double(p.group_ic() * p.KH * p.KW), outputs = double(p.N * p.groups);
        by_channels = outputs * double(p.OH * p.OW) * vectors(p.group_oc()) * (K + 10);
        by_pixels = outputs * double(p.OH) * vectors(p.OW) * double(p.group_oc()) * (K + 2);
    }
};

bool by_pixels(const Conv2d& p) {
    const Costs costs(p);
    return costs.by_pixels < costs.by_channels;
}

class Direct final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            return by_pixels(p) ? DirectPixelsPlan<decltype(zero)>::workspace_bytes(p)
                                : DirectPlan<decltype(zero)>::workspace_bytes(p);
        });
    }

    double cost(const Conv2d& p) const override {
        const Costs costs(p);
        return std::min(costs.by_channels, costs.by_pixels) / p.threads;
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
