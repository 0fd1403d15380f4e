// Winograd's minimal filtering F(m x m, r x r): each m x m tile of the output costs (m + r - 1)^2
// multiplications for each pair of channels instead of (m r)^2. Weights are transformed once;
// then, for chunks of tiles that stay in the cache: input transform, one matrix product for each of
// the (m + r - 1)^2 positions, output transform. Vectors are along the channels.
//
// Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308; Jia,
// Zlateski, Durand, Li, "Optimizing N-dimensional, Winograd-based Convolution for Manycore CPUs",
// PPoPP'18.

#include <cmath>

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/dot_pairs.hpp"
#include "kernels/gather_channels.hpp"
#include "kernels/winograd_transform.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"
#include "ops/conv2d/winograd_tile.hpp"

namespace ai3 {
namespace {

// From T to O: transforms and sums are in float for bfloat16, between them are products of
// bfloat16, and the output may be either. Transformed tiles are held as Read: T or, where bfloat16
// is multiplied as floats, float.
template <typename T, int M, int R, typename O = T, typename Read = T>
class WinogradPlan final : public Plan {
    using F = Winograd<M, R>;
    using Sum = Lane<T>;
    static constexpr bool exact = std::is_same_v<T, Sum>;
    static constexpr bool rounded = !exact && std::is_same_v<Read, Sum>;
    static constexpr Index group = multiplied<Read>;
    // Elements of packed weights that a bias is as long as.
    static constexpr Index bias_elements = Index(sizeof(Sum) / sizeof(T));
    static constexpr int A = F::alpha;
    static constexpr int W = lanes<T>;
    static constexpr Index block_width = max_vectors * W;

  public:
    // How the work on one group of channels is cut: chunks of tiles, and whether all threads work
    // on one chunk together.
    struct Schedule {
        Index tile_rows, tile_columns, tiles, ic_blocks, oc_vectors, oc_blocks;
        Index chunk, chunks;
        bool together;
        Index v_stride, m_stride;

        explicit Schedule(const Conv2d& p)
            : tile_rows((p.OH + M - 1) / M),
              tile_columns((p.OW + M - 1) / M),
              tiles(tile_rows * tile_columns),
              ic_blocks((p.group_ic() + W - 1) / W),
              oc_vectors((p.group_oc() + W - 1) / W),
              oc_blocks((oc_vectors + max_vectors - 1) / max_vectors) {
            // Transformed tiles of a chunk: within half of a second-level cache where a thread has
            // a chunk of its own. Where the transformed weights are large they are read once for
            // each chunk, so a chunk is larger and the threads share it.
            constexpr Index cache = Index{512} << 10, shared_cache = Index{4} << 20;
            const Index tile_bytes = A * A * ic_blocks * W * Index(sizeof(Read));
            const Index weight_bytes = A * A * ic_blocks * W * Index(sizeof(T)) * oc_vectors * W;
            const double input_bytes = double(p.N * p.groups * tiles) * double(tile_bytes);
            together = weight_bytes > (Index{2} << 20) ||
                       (p.groups < 2 * p.threads && input_bytes < 2.0 * cache);
            const Index budget = together ? shared_cache : cache;
            const Index most = std::clamp<Index>(budget / tile_bytes, 14, 256);
            chunks = (tiles + most - 1) / most;
            chunk = (tiles + chunks - 1) / chunks;
            // Odd numbers of cache lines, so that the positions do not fall into the same sets.
            v_stride = ic_blocks * chunk * W + (ic_blocks * chunk % 2 ? 0 : W);
            m_stride = chunk * block_width + W;
        }

        std::size_t input_bytes() const {
            return align_up(std::size_t(A * A * v_stride) * sizeof(Read));
        }
        // One thread's products of a block of output channels, and its strip of pixels.
        std::size_t thread_bytes() const {
            const Index strip = std::max<Index>(A * (tile_columns * M + A) * W,
                                                M * (tile_columns * M + W) * block_width);
            return align_up(std::size_t(A * A * m_stride + strip) * sizeof(Sum));
        }
    };

    WinogradPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), s(p), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        const Schedule s(p);
        const auto threads = std::size_t(p.threads);
        return s.input_bytes() * (s.together ? 1 : threads) + s.thread_bytes() * threads;
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const Output<O> out(p, inputs, static_cast<O*>(output));
        const Index stride = p.input_strides().image;
        const auto work_at = [&](Index i) {
            const Index first = i % s.chunks * s.chunk;
            return Work{i / s.chunks / p.groups, i / s.chunks % p.groups, first,
                        std::min(s.chunk, s.tiles - first)};
        };
        const auto tiles_at = [&](std::size_t at) {
            return reinterpret_cast<Read*>(workspace + at);
        };
        const auto sums_at = [&](std::size_t at) { return reinterpret_cast<Sum*>(workspace + at); };
        const Index works = p.N * p.groups * s.chunks;
        if (!s.together) {
            const std::size_t each = s.input_bytes() + s.thread_bytes();
            parallel_for(p.threads, works, [&](Index i, int thread) {
                const Work work = work_at(i);
                Read* v = tiles_at(std::size_t(thread) * each);
                Sum* m = sums_at(std::size_t(thread) * each + s.input_bytes());
                for (Index block = 0; block < s.ic_blocks; ++block)
                    transform_input(input + work.image * stride, block, work, v,
                                    m + A * A * s.m_stride);
                for (Index block = 0; block < s.oc_blocks; ++block)
                    multiply(v, block, work, m, out);
            });
            return;
        }
        Read* v = tiles_at(0);
        const auto own = [&](int thread) {
            return sums_at(s.input_bytes() + std::size_t(thread) * s.thread_bytes());
        };
        for (Index i = 0; i < works; ++i) {
            const Work work = work_at(i);
            parallel_for(p.threads, s.ic_blocks, [&](Index block, int thread) {
                transform_input(input + work.image * stride, block, work, v,
                                own(thread) + A * A * s.m_stride);
            });
            // Few blocks of output channels are cut into ranges of tiles.
            const Index parts = std::clamp<Index>((2 * p.threads - 1) / s.oc_blocks, 1, work.count);
            parallel_for(p.threads, s.oc_blocks * parts, [&](Index i, int thread) {
                const Index begin = work.count * (i % parts) / parts;
                const Index end = work.count * (i % parts + 1) / parts;
                const Work part{work.image, work.group, work.first + begin, end - begin};
                multiply(v + begin * W, i / parts, part, own(thread), out);
            });
        }
    }

  private:
    // Tiles [first, first + count) of one group of channels of an image.
    struct Work {
        Index image, group, first, count;
    };

    // The tiles of one block of input channels into v (position, block, tile, W).
    void transform_input(const T* image, Index block, const Work& work, Read* v, Sum* strip) const {
        Read* to = v + block * s.chunk * W;
        for (Index done = 0; done < work.count;) {
            const Index row = (work.first + done) / s.tile_columns;
            const Index column = (work.first + done) % s.tile_columns;
            const Index run = std::min(work.count - done, s.tile_columns - column);
            const Index width = run * M + R - 1;
            copy_block(p, image, work.group * s.ic_blocks + block, row * M - p.pad_top,
                       column * M - p.pad_left, A, width, strip);
            for (Index t = 0; t < run; ++t)
                F::template input<Sum, rounded>(strip + t * M * W, width * W, to + (done + t) * W,
                                                s.v_stride);
            done += run;
        }
    }

    // The products of one block of output channels, and from them its pixels.
    void multiply(const Read* v, Index block, const Work& work, Sum* m,
                  const Output<O>& out) const {
        const int vectors = int(std::min<Index>(max_vectors, s.oc_vectors - block * max_vectors));
        const Index width = vectors * W, first = block * block_width, count = work.count;
        const Index K = s.ic_blocks * W, padded_oc = s.oc_vectors * W;
        const Sum* bias = packed->template as<Sum>() + work.group * padded_oc + first;
        const T* weights = packed->template as<T>() + p.groups * padded_oc * bias_elements +
                           (work.group * padded_oc + first) * K * A * A;
        const Index most = max_pixels(vectors), tiles = (count + most - 1) / most;
        const Index pixels = (count + tiles - 1) / tiles;
        TileReduction<Read> reduction{s.ic_blocks, 1, 1, W, s.chunk * W, 0, 0, W};
        reduction.last_channels = (p.group_ic() % W + group - 1) / group * group;
        reduction.half = half_empty<T>(std::min(width, p.group_oc() - first));
        const ChannelTile<Read, T> run = find_channel_tile<Read, T>(reduction, vectors, pixels);
        alignas(cache_line) static constexpr Sum zeros[max_vectors * W] = {};
        for (int position = 0; position < A * A; ++position)
            for (Index t = 0; t < tiles; ++t) {
                const Index tile = std::min(t * pixels, count - pixels);
                reduction.fetch_next(K * width * Index(sizeof(T)), K / group,
                                     width * group * Index(sizeof(T)), t, tiles);
                run(reduction, v + position * s.v_stride + tile * W, weights + position * K * width,
                    zeros, m + position * s.m_stride + tile * width);
            }
        Sum* strip = m + A * A * s.m_stride;
        for (Index done = 0; done < count;) {
            const Index row = (work.first + done) / s.tile_columns;
            const Index column = (work.first + done) % s.tile_columns;
            const Index run = std::min(count - done, s.tile_columns - column);
            const Index pitch = run * M * width;
            for (Index t = 0; t < run; ++t)
                for (int vector = 0; vector < vectors; ++vector)
                    F::template output<Sum>(m + (done + t) * width + vector * W, s.m_stride,
                                            load(bias + vector * W),
                                            strip + t * M * width + vector * W, pitch, width);
            const Index oc = work.group * p.group_oc() + first;
            write_strip(strip, run * M, width, row * M, column * M, oc, work.image, out);
            done += run;
        }
    }

    // Tiles side by side, as (M, columns, width), to the output as far as they lie inside of it.
    void write_strip(const Sum* strip, Index columns, Index width, Index oh, Index ow,
                     Index first_oc, Index image, const Output<O>& out) const {
        const Index rows = std::min<Index>(M, p.OH - oh), real = std::min(columns, p.OW - ow);
        for (Index h = 0; h < rows; ++h)
            out.write(strip + h * columns * width, width, image, first_oc,
                      std::min(first_oc + width, p.OC), (oh + h) * p.OW + ow, real);
    }

    // Bias, then weights as (group, block of its OC, position, its IC, channels of the block),
    // absent ones zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index K = s.ic_blocks * W, padded_oc = s.oc_vectors * W;
        const std::size_t bytes =
            std::size_t(p.groups * padded_oc * (K * A * A + bias_elements)) * sizeof(T);
        const std::string name = std::string(name_of(p.dtype)) + (group > 1 ? " pairs" : "") +
                                 " winograd " + std::to_string(M) + " " + std::to_string(R);
        return weights.packed(name, bytes, [&](Buffer& buffer) {
            with_weights<T>(weights, [&](const auto* from, const auto* from_bias) {
                Sum* bias = buffer.as<Sum>();
                // Channels in groups fill their vectors.
                for (Index oc = 0; oc < p.groups * padded_oc; ++oc)
                    bias[oc] = oc < p.OC && from_bias ? Sum(from_bias[oc]) : Sum(0);
                pack_kernels(from, buffer.as<T>() + p.groups * padded_oc * bias_elements,
                             bytes > std::size_t{8} << 20);
            });
        });
    }

    template <typename From>
    void pack_kernels(const From* from, T* to, bool streamed) const {
        const Index K = s.ic_blocks * W, padded_oc = s.oc_vectors * W;
        parallel_for(p.threads, p.groups * s.oc_blocks * s.ic_blocks, [&](Index i, int) {
            const Index at = i / s.ic_blocks / s.oc_blocks, first_ic = i % s.ic_blocks * W;
            const Index first = i / s.ic_blocks % s.oc_blocks * block_width;
            const Index width = std::min(block_width, padded_oc - first);
            T* start = to + (at * padded_oc + first) * K * A * A + first_ic * width;
            // The kernels of W x W channels, output channels side by side.
            alignas(cache_line) Sum kernels[W * R * R * W];
            const Index count = std::min<Index>(W, p.group_ic() - first_ic) * R * R;
            std::fill(kernels + count * W, std::end(kernels), Sum(0));
            for (Index v = 0; v < width; v += W) {
                const Index oc = at * p.group_oc() + first + v;
                const From* rows = from + (oc * p.group_ic() + first_ic) * R * R;
                for (Index k = 0; k < count; k += W)
                    gather_channels(rows + k, p.group_ic() * R * R, std::min<Index>(W, count - k),
                                    p.group_oc() - first - v, kernels + k * W, W);
                for (Index ic = 0; ic < W; ++ic) {
                    const Sum* kernel = kernels + ic * R * R * W;
                    if constexpr (exact)
                        F::weight(kernel, start + ic * width + v, K * width, streamed);
                    else
                        narrow_weight(kernel, start + ic / group * group * width + v * group,
                                      ic % group, K * width);
                }
            }
            if (streamed) stream_fence();
        });
    }

    // The transformed kernels of one input channel, which is number `member` of its group.
    static void narrow_weight(const Sum* kernel, T* to, Index member, Index stride) {
        alignas(cache_line) Sum transformed[A * A * W];
        F::weight(kernel, transformed, W, false);
        for (Index position = 0; position < A * A; ++position)
            for (Index l = 0; l < W; ++l)
                to[position * stride + l * group + member] = T(transformed[position * W + l]);
    }

    Conv2d p;
    Schedule s;
    std::shared_ptr<const Buffer> packed;
};

// Cycles for tiles of m x m: products and transforms, which the threads share, and the transformed
// weights' way through memory, which they do not. Measured on Zen 4: a transform costs some 6
// cycles for each vector, a byte of weights 0.07 where the layer's work is small against their
// size.
double tile_cost(const Conv2d& p, Index m, int threads) {
    const auto [W, positions, tiles, ic, oc] = WinogradExtents(p, m);
    const double groups = double(p.groups);
    const double products = ic * W * multiplied_vectors(p.group_oc(), Index(W)) * step_cost(p);
    const double work = groups * tiles * positions * (products + 6 * (ic + oc));
    const double bytes = groups * positions * ic * oc * W * W * double(size_of(p.dtype));
    return work / threads + 0.07 * bytes;
}

// Cycles of one thread for NCHW, which is transposed on its way in and out.
double transposes(const Conv2d& p) {
    const double W = double(channel_block(p.dtype)), N = double(p.N);
    const auto vectors = [&](Index channels) { return std::ceil(double(channels) / W); };
    return 3 * N *
           ((p.input_layout == Layout::dense ? vectors(p.IC) * double(p.IH * p.IW) : 0) +
            (p.output_layout == Layout::dense ? vectors(p.OC) * double(p.OH * p.OW) : 0));
}

// Relative L2 error for normal inputs and weights: it grows with the points of the transform and
// with the square root of the sums' length. Measured.
double error(const Conv2d& p, Index m) {
    const double epsilons = p.KH == 5 ? (m == 2 ? 2 : 3) : m == 2 ? 0.3 : m == 4 ? 1.7 : 3.2;
    const double epsilon = p.dtype == DType::bf16  ? 0x1p-7
                           : p.dtype == DType::f32 ? 0x1p-23
                                                   : 0x1p-52;
    return epsilons * epsilon * std::sqrt(double(p.group_ic()));
}

// The output tile of plain 'winograd': the fastest that keeps the error within 1e-5; for some
// threads, whatever their number, so that the result does not depend on it.
Index best_tile(const Conv2d& p) {
    Index best = 2;
    for (Index m : {4, 6})
        if (m + p.KH <= 9 && error(p, m) <= 1e-5 && tile_cost(p, m, 2) < tile_cost(p, best, 2))
            best = m;
    return best;
}

// What is transformed is rounded as well: F(2x2, 3x3) in bfloat16 has 1.65 times the error of
// 'direct' (docs/bfloat16.md), and stands for election where it is as many times as fast.
bool pays_for_rounding(const Conv2d& p, double cycles) {
    constexpr double roundings = 1.65;
    return roundings * cycles <= Registry<Conv2d>::instance().at("direct").cost(p);
}

template <typename T, typename O = T, typename Read = T, typename F>
auto with_tile(const Conv2d& p, Index tile, F&& f) {
    if (p.KH == 5 && tile == 2) return f(std::type_identity<WinogradPlan<T, 2, 5, O, Read>>{});
    if (p.KH == 5) return f(std::type_identity<WinogradPlan<T, 4, 5, O, Read>>{});
    if (tile == 2) return f(std::type_identity<WinogradPlan<T, 2, 3, O, Read>>{});
    if (tile == 4) return f(std::type_identity<WinogradPlan<T, 4, 3, O, Read>>{});
    return f(std::type_identity<WinogradPlan<T, 6, 3, O, Read>>{});
}

template <typename F>
auto with_plan(const Conv2d& p, Index tile, F&& f) {
    const auto narrow = [&]<typename O>(O) {
        return multiplies_pairs() ? with_tile<bfloat16, O>(p, tile, f)
                                  : with_tile<bfloat16, O, float>(p, tile, f);
    };
    if (p.dtype == DType::bf16)
        return p.output_dtype == DType::bf16 ? narrow(bfloat16{}) : narrow(float{});
    return p.dtype == DType::f32 ? with_tile<float>(p, tile, f) : with_tile<double>(p, tile, f);
}

// `tile` is m, 0: the best for the shape.
template <Index tile>
class WinogradAlgorithm final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return winograd_name(tile); }

    bool takes_bfloat16() const override { return true; }

    std::string refusal(const Conv2d& p) const override {
        const Index W = channel_block(p.dtype);
        if (p.groups > 1 && (p.group_ic() % W || p.group_oc() % W))
            return "the channels are in groups of " + std::to_string(p.group_ic()) + " for " +
                   std::to_string(p.group_oc()) + ", not of multiples of " + std::to_string(W);
        const std::string reason = winograd_refusal(p, tile, 4);
        return reason.empty() ? refuse_to_narrow(p) : reason;
    }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_plan(p, chosen(p),
                         [&](auto plan) { return decltype(plan)::type::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_plan(p, chosen(p), [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p, weights);
        });
    }

    bool elected() const override { return !tile; }

    double cost(const Conv2d& p) const override {
        const double cycles = tile_cost(p, chosen(p), p.threads) + transposes(p) / p.threads;
        const bool pays = tile || p.dtype != DType::bf16 || pays_for_rounding(p, cycles);
        return pays ? cycles : Algorithm<Conv2d>::cost(p);
    }

  private:
    static Index chosen(const Conv2d& p) { return tile ? tile : best_tile(p); }
};

const Register<Conv2d, WinogradAlgorithm<0>> best;
const Register<Conv2d, WinogradAlgorithm<2>> f2;
const Register<Conv2d, WinogradAlgorithm<4>> f4;
const Register<Conv2d, WinogradAlgorithm<6>> f6;

}  // namespace
}  // namespace ai3
