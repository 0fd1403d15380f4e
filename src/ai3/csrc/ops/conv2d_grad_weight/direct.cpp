// Direct correlation: a tile of V vectors of output channels x PX input channels (or neighbouring
// elements of a kernel's row) stays in registers over a block of pixels; each step multiplies V
// vectors of the gradient, whose channels are made to lie side by side, by PX broadcast values of
// the input. Sums over a block are added to those of the blocks before, so that rounding grows with
// the length of a block and with the number of blocks, not with their product.
//
// Images are taken in chunks that stay in the last-level cache: first all threads prepare a chunk,
// then each adds up elements of its own.

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/gather_channels.hpp"
#include "ops/conv2d/padding.hpp"
#include "ops/conv2d_grad_weight/by_pixels.hpp"
#include "ops/conv2d_grad_weight/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class ByChannels final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index block_width = max_vectors * W;
    static constexpr Index tile_channels = std::min<Index>(W, accumulators >= 24 ? 8 : 4);

    struct Schedule {
        PaddedImage image;
        Index vectors, blocks, images;
        // Tiles are of neighbouring channels, which the image's copy has side by side, or of
        // neighbouring elements of the kernel's rows.
        bool by_channel, copied;
        Index image_size, lines;

        explicit Schedule(const Conv2d& p) : image(p) {
            constexpr Index cache = Index{6} << 20;
            vectors = (p.group_oc() + W - 1) / W;
            blocks = (vectors + max_vectors - 1) / max_vectors;
            by_channel = p.group_ic() >= std::min(p.KW, tile_channels);
            copied = by_channel || image.copied;
            image_size = by_channel ? (p.IC + W - 1) / W * W * image.plane() : p.IC * image.plane();
            const Index bytes =
                (image_size + p.groups * vectors * W * p.OH * p.OW) * Index(sizeof(T));
            images = std::clamp<Index>(cache / bytes, 1, std::max<Index>(1, p.N));
            lines = by_channel ? (p.group_ic() + W - 1) / W : p.group_ic();
        }

        Index width(Index block) const {
            return std::min<Index>(max_vectors, vectors - block * max_vectors) * W;
        }
        Index K(const Conv2d& p) const { return p.group_ic() * p.KH * p.KW; }
        std::size_t sums_bytes(const Conv2d& p) const {
            return align_up(std::size_t(p.groups * vectors * W * K(p)) * sizeof(T));
        }
        std::size_t grad_bytes(const Conv2d& p) const {
            return align_up(std::size_t(images * p.groups * vectors * W * p.OH * p.OW) * sizeof(T));
        }
        std::size_t image_bytes() const {
            return copied ? align_up(std::size_t(images * image_size) * sizeof(T)) : 0;
        }
    };

  public:
    explicit ByChannels(const Conv2d& problem) : p(problem), s(p) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        const Schedule s(p);
        return s.sums_bytes(p) + s.grad_bytes(p) + s.image_bytes();
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const T* grad = static_cast<const T*>(inputs[1]);
        T* sums = reinterpret_cast<T*>(workspace);
        T* turned = reinterpret_cast<T*>(workspace + s.sums_bytes(p));
        T* copy = reinterpret_cast<T*>(workspace + s.sums_bytes(p) + s.grad_bytes(p));
        const Index tasks = p.groups * s.blocks * s.lines;
        parallel_for(p.threads, p.groups * s.blocks, [&](Index i, int) {
            const Index group = i / s.blocks, block = i % s.blocks;
            T* from = sums_of(sums, group, block);
            std::fill(from, from + s.K(p) * s.width(block), T(0));
        });
        for (Index first = 0; first < p.N; first += s.images) {
            const Index images = std::min(s.images, p.N - first);
            const T* in = input + first * p.IC * p.IH * p.IW;
            parallel_for(p.threads, images * p.groups * s.blocks, [&](Index i, int) {
                const Index n = i / (p.groups * s.blocks), rest = i % (p.groups * s.blocks);
                turn(grad + (first + n) * p.OC * p.OH * p.OW, rest / s.blocks, rest % s.blocks, n,
                     turned);
            });
            if (s.copied) {
                copy_images(in, images, copy);
                in = copy;
            }
            parallel_for(p.threads, tasks, [&](Index i, int) {
                const Index group = i / (s.blocks * s.lines);
                add_line(in, turned, group, i / s.lines % s.blocks, i % s.lines, images, sums);
            });
        }
        T* out = static_cast<T*>(output);
        parallel_for(p.threads, p.groups * s.blocks, [&](Index i, int) {
            const Index group = i / s.blocks, block = i % s.blocks, K = s.K(p);
            const Index width = s.width(block), oc = block * block_width;
            const T* from = sums_of(sums, group, block);
            T* to = out + (group * p.group_oc() + oc) * K;
            for (Index v = 0; v < width; v += W)
                for (Index k = 0; k < K; k += W)
                    store_channels(from + k * width + v, width, std::min(W, K - k),
                                   std::min(W, p.group_oc() - oc - v), to + v * K + k, K);
        });
    }

  private:
    // (k, channels of the block)
    T* sums_of(T* sums, Index group, Index block) const {
        return sums + (group * s.vectors * W + block * block_width) * s.K(p);
    }
    // (image, pixel, channels of the block)
    T* turned_of(T* turned, Index group, Index block) const {
        return turned + (group * s.vectors * W + block * block_width) * s.images * p.OH * p.OW;
    }

    // The channels of a block of one image's gradient, side by side.
    void turn(const T* grad, Index group, Index block, Index n, T* turned) const {
        const Index P = p.OH * p.OW, width = s.width(block), oc = block * block_width;
        const T* from = grad + (group * p.group_oc() + oc) * P;
        T* to = turned_of(turned, group, block) + n * P * width;
        for (Index v = 0; v < width; v += W) {
            const Index channels = std::min(W, p.group_oc() - oc - v);
            for (Index pixel = 0; pixel < P; pixel += W)
                gather_channels(from + v * P + pixel, P, std::min(W, P - pixel), channels,
                                to + pixel * width + v, width);
        }
    }

    // As (image, block of W channels, row, column, W), or the channels one by one.
    void copy_images(const T* in, Index images, T* copy) const {
        const Index plane = s.image.plane(), size = p.IC * p.IH * p.IW;
        const Index blocks = s.by_channel ? (p.IC + W - 1) / W : p.IC;
        parallel_for(p.threads, images * blocks, [&](Index i, int) {
            const Index n = i / blocks, block = i % blocks;
            if (s.by_channel)
                copy_block(p, in + n * size, block, -p.pad_top, -p.pad_left, s.image.height,
                           s.image.width, copy + i * plane * W);
            else
                pad_plane(p, s.image, in + n * size + block * p.IH * p.IW, copy + i * plane);
        });
    }

    // Adds the chunk's products of one block of output channels and one line: W input channels of
    // the group or, by elements, one.
    void add_line(const T* in, const T* turned, Index group, Index block, Index line, Index images,
                  T* sums) const {
        const Index width = s.width(block), P = p.OH * p.OW;
        const Index pixel = s.by_channel ? W : 1, row = s.image.width * pixel;
        const bool one_row =
            p.KH == 1 && p.KW == 1 && p.stride_h == 1 && p.stride_w == 1 && s.image.width == p.OW;
        const Index rows = one_row ? 1 : p.OH, columns = one_row ? P : p.OW;
        const T* grad = turned_of(const_cast<T*>(turned), group, block);
        T* to = sums_of(sums, group, block);
        // Blocks of whole images, of some rows of one, or of a part of a long row.
        constexpr Index most = 2048;
        const Index image_step = std::clamp<Index>(most / P, 1, images);
        const Index row_step = std::clamp<Index>(most / columns, 1, rows);
        const Index column_step = rows == 1 ? std::min(columns, most) : columns;
        for (Index n = 0; n < images; n += image_step)
            for (Index r = 0; r < rows; r += row_step)
                for (Index c = 0; c < columns; c += column_step) {
                    TileReduction<T> part{std::min(image_step, images - n),
                                          std::min(row_step, rows - r),
                                          std::min(column_step, columns - c),
                                          1,
                                          s.image_size,
                                          p.stride_h * row,
                                          p.stride_w * pixel,
                                          s.by_channel ? 1 : p.dilation_w};
                    const T* g = grad + (n * P + r * columns + c) * width;
                    const T* x = in + n * s.image_size + r * part.kh_stride + c * part.kw_stride;
                    if (s.by_channel)
                        add_channels(part, x, g, group, line, width, to);
                    else
                        add_elements(part, x, g, group, line, width, to);
                }
    }

    void add_channels(const TileReduction<T>& part, const T* x, const T* grad, Index group,
                      Index line, Index width, T* sums) const {
        const Index taps = p.KH * p.KW, row = s.image.width * W;
        const Index start = group * p.group_ic(), end = std::min((line + 1) * W, p.group_ic());
        for (Index kh = 0; kh < p.KH; ++kh)
            for (Index kw = 0; kw < p.KW; ++kw)
                for (Index ic = line * W, count; ic < end; ic += count) {
                    // A tile ends with its vector of channels.
                    const Index lane = (start + ic) % W;
                    count = std::min({tile_channels, end - ic, W - lane});
                    add_tile(part,
                             x + (start + ic) / W * s.image.plane() * W + lane +
                                 kh * p.dilation_h * row + kw * p.dilation_w * W,
                             grad, count, width, sums + (ic * taps + kh * p.KW + kw) * width,
                             taps * width);
                }
    }

    void add_elements(const TileReduction<T>& part, const T* x, const T* grad, Index group,
                      Index ic, Index width, T* sums) const {
        const Index most = max_pixels(max_vectors), row = s.image.width;
        x += (group * p.group_ic() + ic) * s.image.plane();
        for (Index kh = 0; kh < p.KH; ++kh)
            for (Index kw = 0; kw < p.KW; kw += most)
                add_tile(part, x + kh * p.dilation_h * row + kw * p.dilation_w, grad,
                         std::min(most, p.KW - kw), width,
                         sums + ((ic * p.KH + kh) * p.KW + kw) * width, width);
    }

    // Adds `count` x `width` sums to rows `stride` apart.
    static void add_tile(const TileReduction<T>& part, const T* x, const T* grad, Index count,
                         Index width, T* sums, Index stride) {
        alignas(cache_line) static constexpr T zeros[block_width] = {};
        alignas(cache_line) T tile[accumulators * W];
        const int vectors = int(width / W);
        (part.pixel_stride == 1
             ? find_channel_tile<T, 1, 1>(vectors, count)
             : find_channel_tile<T, 0, 1>(vectors, count))(part, x, grad, zeros, tile);
        for (Index i = 0; i < count; ++i)
            for (Index v = 0; v < width; v += W)
                store(sums + i * stride + v,
                      load(sums + i * stride + v) + load(tile + i * width + v));
    }

    Conv2d p;
    Schedule s;
};

// Cycles of one thread, as direct convolution counts them: vectors of channels, or of pixels.
struct Costs {
    double by_channels, by_pixels;

    explicit Costs(const Conv2d& p) {
        const Index W = Index(AI3_VECTOR_BYTES / size_of(p.dtype));
        const auto vectors = [&](Index n) { return double((n + W - 1) / W); };
        const double K = double(p.group_ic() * p.KH * p.KW), images = double(p.N * p.groups);
        by_channels = images * double(p.OH * p.OW) * vectors(p.group_oc()) * (K + 3);
        by_pixels = 1.5 * images * double(p.OH) * vectors(p.OW) * double(p.group_oc()) * (K + 1);
    }
};

bool by_pixels(const Conv2d& p) {
    const Costs costs(p);
    return costs.by_pixels < costs.by_channels;
}

class Direct final : public Algorithm<Conv2dGradWeight> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Conv2dGradWeight& p) const override {
        return with_type(p.forward.dtype, [&](auto zero) {
            using T = decltype(zero);
            return by_pixels(p.forward) ? GradWeightByPixels<T>::workspace_bytes(p.forward)
                                        : ByChannels<T>::workspace_bytes(p.forward);
        });
    }

    double cost(const Conv2dGradWeight& p) const override {
        const Costs costs(p.forward);
        return std::min(costs.by_channels, costs.by_pixels) / p.forward.threads;
    }

    std::unique_ptr<Plan> plan(const Conv2dGradWeight& p, const WeightSet&) const override {
        return with_type(p.forward.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (by_pixels(p.forward)) return std::make_unique<GradWeightByPixels<T>>(p.forward);
            return std::make_unique<ByChannels<T>>(p.forward);
        });
    }
};

const Register<Conv2dGradWeight, Direct> registered;

}  // namespace
}  // namespace ai3
