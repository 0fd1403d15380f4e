// Direct correlation. Of the two images, one has its channels turned to lie side by side, a block
// of pixels at a time: these are vectors. Values of the other are read where they are. A tile of
// values x vectors stays in registers over a block of pixels and is then added to the output, so
// that rounding grows with the length of a block and with the number of blocks, not with their
// product.
//
// In general the gradient is turned, and a tile's values are neighbouring elements of the kernels:
// tiles are transposed on their way to the output. Where there is one element, unpadded, the input
// can be turned instead: tiles then are rows of the output, which needs no transposition.

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/correlation_tile.hpp"
#include "kernels/gather_channels.hpp"
#include "ops/conv2d/padding.hpp"
#include "ops/conv2d_grad_weight/by_pixels.hpp"
#include "ops/conv2d_grad_weight/op.hpp"

namespace ai3 {
namespace {

// Cycles, as direct convolution counts them, for vectors of output channels, of input channels, or
// of pixels. Transposed, each byte of the output costs something that threads do not share.
struct Costs {
    double by_outputs, by_inputs = std::numeric_limits<double>::infinity(), by_pixels;

    explicit Costs(const Conv2d& p) {
        const Index W = Index(AI3_VECTOR_BYTES / size_of(p.dtype));
        const auto vectors = [&](Index n) { return double((n + W - 1) / W); };
        const double K = double(p.group_ic() * p.KH * p.KW), images = double(p.N * p.groups);
        const double P = double(p.OH * p.OW), groups = double(p.groups), threads = p.threads;
        by_outputs = vectors(p.group_oc()) * (images * P * (K + 3) + 8 * groups * K) / threads +
                     0.1 * double(p.OC) * K * double(size_of(p.dtype));
        if (p.KH == 1 && p.KW == 1 && p.stride_h == 1 && p.stride_w == 1 && !p.padded())
            by_inputs =
                vectors(p.group_ic()) *
                (images * P * double(p.group_oc() + 3) + 3 * groups * double(p.group_oc())) /
                threads;
        by_pixels =
            1.5 * images * double(p.OH) * vectors(p.OW) * double(p.group_oc()) * (K + 1) / threads;
    }

    double least() const { return std::min({by_outputs, by_inputs, by_pixels}); }
};

template <typename T>
class GradWeightByChannels final : public Plan {
    using Tiles = CorrelationTiles<T>;
    static constexpr Index W = lanes<T>;
    static constexpr Index block_width = Tiles::max_vectors * W;
    static constexpr Index block_pixels = 1024;

    struct Schedule {
        bool turn_input;
        Index width, rows;      // of a group: channels that are turned, rows of values
        Index vectors, blocks;  // of the former
        Index splits;           // of the latter, for the sake of threads
        PaddedImage image;      // of the values, where they are the input's
        Index plane;            // of the copy, or of the input
        Index images;           // whose copies are made at a time

        explicit Schedule(const Conv2d& p) : turn_input(by_inputs(p)), image(p) {
            width = turn_input ? p.group_ic() : p.group_oc();
            rows = turn_input ? p.group_oc() : p.group_ic() * p.KH * p.KW;
            vectors = (width + W - 1) / W;
            blocks = (vectors + Tiles::max_vectors - 1) / Tiles::max_vectors;
            // Each split turns the same pixels again, which is to cost little beside its products.
            constexpr Index least_rows = 56;
            splits = std::clamp<Index>(4 * p.threads / std::max<Index>(1, p.groups * blocks), 1,
                                       std::max<Index>(1, rows / least_rows));
            plane = image.plane();
            if (!turn_input && in_same_sets(plane)) plane += cache_line / Index(sizeof(T));
            image.copied = !turn_input && (image.copied || plane != image.plane());
            constexpr Index cache = Index{6} << 20;
            const Index bytes = std::max<Index>(1, p.IC * plane * Index(sizeof(T)));
            images = std::max<Index>(1, p.N);
            if (image.copied) images = std::clamp<Index>(cache / bytes, 1, images);
        }

        std::size_t image_bytes(const Conv2d& p) const {
            return image.copied ? align_up(std::size_t(images * p.IC * plane) * sizeof(T)) : 0;
        }
        static constexpr std::size_t thread_bytes() {
            return std::size_t(block_pixels * block_width) * sizeof(T);
        }
    };

  public:
    explicit GradWeightByChannels(const Conv2d& problem) : p(problem), s(p) {
        if (s.turn_input) {
            for (Index oc = 0; oc < s.rows; ++oc) offsets_.push_back(oc * p.OH * p.OW);
            return;
        }
        for (Index ic = 0; ic < p.group_ic(); ++ic)
            for (Index kh = 0; kh < p.KH; ++kh)
                for (Index kw = 0; kw < p.KW; ++kw)
                    offsets_.push_back(ic * s.plane + kh * p.dilation_h * s.image.width +
                                       kw * p.dilation_w);
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        return Schedule(p).image_bytes(p) + Schedule::thread_bytes() * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const T* grad = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        T* copy = reinterpret_cast<T*>(workspace);
        if (p.N * p.OH * p.OW == 0) {
            std::fill(out, out + p.OC * p.group_ic() * p.KH * p.KW, T(0));
            return;
        }
        for (Index first = 0; first < p.N; first += s.images) {
            const Index images = std::min(s.images, p.N - first);
            const T* in = input + first * p.IC * p.IH * p.IW;
            const T* g = grad + first * p.OC * p.OH * p.OW;
            if (s.image.copied) {
                parallel_for(p.threads, images * p.IC, [&](Index i, int) {
                    pad_plane(p, s.image, in + i * p.IH * p.IW, copy + i * s.plane);
                });
                in = copy;
            }
            parallel_for(p.threads, p.groups * s.blocks * s.splits, [&](Index i, int thread) {
                auto* turned = reinterpret_cast<T*>(workspace + s.image_bytes(p) +
                                                    std::size_t(thread) * s.thread_bytes());
                const Index group = i / (s.blocks * s.splits), split = i % s.splits;
                add_block(in, g, images, first > 0, group, i / s.splits % s.blocks,
                          s.rows * split / s.splits, s.rows * (split + 1) / s.splits, turned, out);
            });
        }
    }

  private:
    static bool by_inputs(const Conv2d& p) {
        // Rows of values are then as far apart as the planes of the gradient.
        const Costs costs(p);
        return costs.by_inputs <= costs.by_outputs && !in_same_sets(p.OH * p.OW);
    }
    // Whether lines of planes one behind the other meet in few sets of the first-level cache.
    static bool in_same_sets(Index plane) { return plane * Index(sizeof(T)) % 2048 == 0; }

    // The products of some images, one block of turned channels and the rows [begin, end).
    void add_block(const T* in, const T* grad, Index images, bool add, Index group, Index block,
                   Index begin, Index end, T* turned, T* out) const {
        const Index P = p.OH * p.OW, first = block * block_width;
        const Index vectors = std::min<Index>(Tiles::max_vectors, s.vectors - first / W);
        const Index in_image = p.IC * s.plane, grad_image = p.OC * P;
        const T* x = in + group * p.group_ic() * s.plane;
        const T* g = grad + group * p.group_oc() * P;
        const bool one_row = s.turn_input || (p.KH == 1 && p.KW == 1 && p.stride_h == 1 &&
                                              p.stride_w == 1 && s.image.width == p.OW);
        const Index rows = one_row ? 1 : p.OH, columns = one_row ? P : p.OW;
        PixelGrid grid{1, 1, 1, in_image, p.stride_h * s.image.width, p.stride_w};
        if (s.turn_input) grid.image_stride = grad_image, grid.row_stride = 0;
        // Blocks of whole images, of some rows of one, or of a part of a row.
        const Index image_step = std::clamp<Index>(block_pixels / P, 1, images);
        const Index row_step = std::clamp<Index>(block_pixels / columns, 1, rows);
        const Index column_step = std::min(columns, block_pixels);
        for (Index n = 0; n < images; n += image_step)
            for (Index r = 0; r < rows; r += row_step)
                for (Index c = 0; c < columns; c += column_step, add = true) {
                    grid.images = std::min(image_step, images - n);
                    grid.rows = std::min(row_step, rows - r);
                    grid.columns = std::min(column_step, columns - c);
                    const Index pixel = r * columns + c;
                    if (s.turn_input) {
                        turn(x + n * in_image + first * P + pixel, in_image, grid, s.width - first,
                             vectors, turned);
                        add_tiles(grid, g + n * grad_image + pixel, turned, vectors, group, first,
                                  begin, end, add, out);
                    } else {
                        turn(g + n * grad_image + first * P + pixel, grad_image, grid,
                             s.width - first, vectors, turned);
                        add_tiles(grid, x + n * in_image + r * grid.row_stride + c * grid.step,
                                  turned, vectors, group, first, begin, end, add, out);
                    }
                }
    }

    // The channels of a grid's pixels side by side, (pixel, vectors).
    void turn(const T* from, Index image_stride, const PixelGrid& grid, Index channels,
              Index vectors, T* turned) const {
        const Index P = p.OH * p.OW, pixels = grid.rows * grid.columns;
        for (Index n = 0; n < grid.images; ++n, from += image_stride)
            for (Index v = 0; v < vectors; ++v)
                for (Index i = 0; i < pixels; i += W)
                    gather_channels(from + v * W * P + i, P, std::min(W, pixels - i),
                                    std::min(W, channels - v * W),
                                    turned + ((n * pixels + i) * vectors + v) * W, vectors * W);
    }

    // Adds to the output, or begins with, the tiles of the rows [begin, end).
    void add_tiles(const PixelGrid& grid, const T* values, const T* turned, Index vectors,
                   Index group, Index first, Index begin, Index end, bool add, T* out) const {
        alignas(cache_line) T sums[Tiles::max_rows * block_width];
        const Index count = end - begin, tiles = (count + Tiles::max_rows - 1) / Tiles::max_rows;
        const Epilogue<T> epilogue{Activation::none, 0, add ? out : nullptr, out};
        for (Index tile = 0; tile < tiles; ++tile) {
            const Index row = begin + count * tile / tiles;
            const Index R = begin + count * (tile + 1) / tiles - row;
            Tiles::find(vectors, R, grid.step)(grid, values, offsets_.data() + row, turned, sums);
            for (Index v = 0; v < vectors; ++v) {
                const Index channel = first + v * W, live = std::min(W, s.width - channel);
                if (s.turn_input)
                    put_rows(sums + v * W, vectors * W, R, live,
                             out + (group * s.rows + row) * s.width + channel, epilogue);
                else
                    for (Index r = 0; r < R; r += W)
                        store_channels(
                            sums + (r * vectors + v) * W, vectors * W, std::min(W, R - r), live,
                            out + (group * s.width + channel) * s.rows + row + r, s.rows, epilogue);
            }
        }
    }

    // R vectors of `channels` lanes, `stride` apart, to rows of the output.
    void put_rows(const T* sums, Index stride, Index R, Index channels, T* out,
                  const Epilogue<T>& epilogue) const {
        const auto live = LaneMask<T>::first(channels);
        for (Index r = 0; r < R; ++r, out += s.width)
            live.store(out, epilogue(load(sums + r * stride), out, live));
    }

    Conv2d p;
    Schedule s;
    std::vector<Index> offsets_;
};

// f(std::type_identity) of the plan that costs least.
template <typename F>
auto with_plan(const Conv2d& p, F&& f) {
    return with_type(p.dtype, [&](auto zero) {
        using T = decltype(zero);
        const Costs costs(p);
        if (costs.by_pixels == costs.least()) return f(std::type_identity<GradWeightByPixels<T>>{});
        return f(std::type_identity<GradWeightByChannels<T>>{});
    });
}

class Direct final : public Algorithm<Conv2dGradWeight> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Conv2dGradWeight& p) const override {
        return with_plan(
            p.forward, [&](auto plan) { return decltype(plan)::type::workspace_bytes(p.forward); });
    }

    double cost(const Conv2dGradWeight& p) const override { return Costs(p.forward).least(); }

    std::unique_ptr<Plan> plan(const Conv2dGradWeight& p, const WeightSet&) const override {
        return with_plan(p.forward, [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p.forward);
        });
    }
};

const Register<Conv2dGradWeight, Direct> registered;

}  // namespace
}  // namespace ai3
