// The correlation by Winograd's minimal filtering, F(r x r, m x m): the transpose of that of the
// convolution. For each tile of m x m output pixels both the input's tile and the gradient's are
// transformed to (m + r - 1)^2 positions; for each position a matrix product sums over the tiles;
// the sums are transformed back to r x r. Of
//
//   Y = AT [(G g GT) . (BT d B)] A   the derivative by g is   GT [(A dY AT) . (BT d B)] G.
//
// Tiles go by in chunks that stay in the last-level cache. Vectors are along the channels.
//
// Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, section 4.

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/winograd_transform.hpp"
#include "ops/conv2d/padding.hpp"
#include "ops/conv2d/winograd_tile.hpp"
#include "ops/conv2d_grad_weight/op.hpp"

namespace ai3 {
namespace {

template <typename T, int M, int R>
class WinogradGradWeight final : public Plan {
    using F = Winograd<M, R>;
    static constexpr int A = F::alpha;
    static constexpr Index W = lanes<T>;
    static constexpr Index block_width = max_vectors * W;
    // Input channels of a register tile; vectors of them are whole numbers of it.
    static constexpr Index tile_channels = std::min<Index>(W, accumulators >= 24 ? 8 : 4);

    struct Schedule {
        Index tile_columns, tile_rows, ic_blocks, oc_vectors, oc_blocks;
        Index rows, chunks, tiles;  // of tiles: rows in a chunk, chunks, tiles in a chunk
        Index v_stride, u_stride;

        explicit Schedule(const Conv2d& p)
            : tile_columns((p.OW + M - 1) / M),
              tile_rows((p.OH + M - 1) / M),
              ic_blocks((p.IC + W - 1) / W),
              oc_vectors((p.OC + W - 1) / W),
              oc_blocks((oc_vectors + max_vectors - 1) / max_vectors) {
            constexpr Index cache = Index{8} << 20;
            const Index row_bytes =
                A * A * (ic_blocks + oc_vectors) * W * tile_columns * Index(sizeof(T));
            const Index all = std::max<Index>(1, p.N) * tile_rows;
            chunks = std::clamp<Index>((all * row_bytes + cache - 1) / cache, 1, all);
            rows = (all + chunks - 1) / chunks;
            chunks = (all + rows - 1) / rows;
            tiles = rows * tile_columns;
            // Odd numbers of cache lines, so that the positions do not fall into the same sets.
            const auto odd = [](Index vectors) { return (vectors | 1) * W; };
            v_stride = odd(ic_blocks * tiles);
            u_stride = odd(oc_vectors * tiles);
        }

        std::size_t tiles_bytes() const {
            return align_up(std::size_t(A * A * (v_stride + u_stride)) * sizeof(T));
        }
        // The sums of one block of output channels and one of input channels.
        static constexpr Index block_sums = A * A * W * block_width;
        std::size_t sums_bytes() const {
            return chunks == 1 ? 0 : std::size_t(oc_blocks * ic_blocks * block_sums) * sizeof(T);
        }
        std::size_t thread_bytes() const {
            const Index strip = A * (tile_columns * M + A) * W;
            return align_up(std::size_t(std::max(strip, block_sums + W * R * R * W)) * sizeof(T));
        }
    };

  public:
    explicit WinogradGradWeight(const Conv2d& problem) : p(problem), grad_image(problem), s(p) {
        // The gradient as an image to copy tiles of.
        grad_image.IC = p.OC, grad_image.IW = p.OW;
        grad_image.IH = grad_image.held_ih = p.OH;
        grad_image.pad_top = grad_image.pad_bottom = 0;
        grad_image.pad_left = grad_image.pad_right = 0;
        grad_image.padding_mode = PaddingMode::zeros;
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        const Schedule s(p);
        return s.tiles_bytes() + s.sums_bytes() + s.thread_bytes() * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const T* grad = static_cast<const T*>(inputs[1]);
        T* v = reinterpret_cast<T*>(workspace);
        T* u = v + A * A * s.v_stride;
        T* sums = reinterpret_cast<T*>(workspace + s.tiles_bytes());
        const auto own = [&](int thread) {
            return reinterpret_cast<T*>(workspace + s.tiles_bytes() + s.sums_bytes() +
                                        std::size_t(thread) * s.thread_bytes());
        };
        const Index all = p.N * s.tile_rows, blocks = s.ic_blocks + s.oc_vectors;
        if (all == 0) std::fill_n(static_cast<T*>(output), p.OC * p.IC * R * R, T(0));
        for (Index first = 0; first < all; first += s.rows) {
            const Index rows = std::min(s.rows, all - first);
            parallel_for(p.threads, rows * blocks, [&](Index i, int thread) {
                const Index row = i / blocks, block = i % blocks;
                const Index n = (first + row) / s.tile_rows;
                const Index oh = (first + row) % s.tile_rows * M;
                if (block < s.ic_blocks)
                    transform_input(input + n * p.IC * p.IH * p.IW, block, oh, row, v, own(thread));
                else
                    transform_grad(grad + n * p.OC * p.OH * p.OW, block - s.ic_blocks, oh, row, u,
                                   own(thread));
            });
            const Index tiles = rows * s.tile_columns;
            parallel_for(p.threads, s.oc_blocks * s.ic_blocks, [&](Index i, int thread) {
                T* local = own(thread);
                T* block_sums = s.chunks == 1 ? local : sums + i * Schedule::block_sums;
                multiply(v, u, i / s.ic_blocks, i % s.ic_blocks, tiles, first == 0, block_sums);
                if (first + rows == all)
                    finish(block_sums, i / s.ic_blocks, i % s.ic_blocks,
                           local + Schedule::block_sums, static_cast<T*>(output));
            });
        }
    }

  private:
    Index width(Index block) const {
        return std::min<Index>(max_vectors, s.oc_vectors - block * max_vectors) * W;
    }

    // A row of tiles of one block of input channels into v (position, block, tile, W).
    void transform_input(const T* image, Index block, Index oh, Index row, T* v, T* strip) const {
        const Index columns = s.tile_columns * M + R - 1;
        copy_block(p, image, block, oh - p.pad_top, -p.pad_left, A, columns, strip);
        T* to = v + (block * s.tiles + row * s.tile_columns) * W;
        for (Index t = 0; t < s.tile_columns; ++t)
            F::template input<T>(strip + t * M * W, columns * W, to + t * W, s.v_stride);
    }

    // A row of tiles of one vector of output channels into u (position, block, tile, its channels).
    void transform_grad(const T* image, Index vector, Index oh, Index row, T* u, T* strip) const {
        const Index columns = s.tile_columns * M, block = vector / max_vectors;
        copy_block(grad_image, image, vector, oh, Index{0}, Index{M}, columns, strip);
        T* to = u + block * block_width * s.tiles + row * s.tile_columns * width(block) +
                vector % max_vectors * W;
        for (Index t = 0; t < s.tile_columns; ++t)
            F::template gradient<T>(strip + t * M * W, columns * W, to + t * width(block),
                                    s.u_stride);
    }

    // Adds the products of the chunk's tiles to sums (position, input channel, output channel).
    void multiply(const T* v, const T* u, Index oc_block, Index ic_block, Index tiles, bool first,
                  T* sums) const {
        const Index n = width(oc_block);
        const auto reduction = TileReduction<T>::of_rows(tiles, W);
        const auto run = find_channel_tile(reduction, int(n / W), tile_channels);
        alignas(cache_line) static constexpr T zeros[block_width] = {};
        alignas(cache_line) T tile[tile_channels * block_width];
        const T* in = v + ic_block * s.tiles * W;
        const T* grads = u + oc_block * block_width * s.tiles;
        for (Index position = 0; position < A * A; ++position)
            for (Index c = 0; c < W; c += tile_channels) {
                T* to = sums + (position * W + c) * n;
                run(reduction, in + position * s.v_stride + c, grads + position * s.u_stride, zeros,
                    first ? to : tile);
                if (!first)
                    for (Index i = 0; i < tile_channels * n; i += W)
                        store(to + i, load(to + i) + load(tile + i));
            }
    }

    // From the sums to the output.
    void finish(const T* sums, Index oc_block, Index ic_block, T* kernels, T* out) const {
        const Index n = width(oc_block), K = p.IC * R * R;
        const Index channels = std::min(W, p.IC - ic_block * W), count = channels * R * R;
        for (Index v = 0; v < n; v += W) {
            const Index oc = oc_block * block_width + v;
            for (Index c = 0; c < channels; ++c)
                F::template kernel<T>(sums + c * n + v, W * n, kernels + c * R * R * W, W);
            T* to = out + oc * K + ic_block * W * R * R;
            for (Index k = 0; k < count; k += W)
                store_channels(kernels + k * W, W, std::min(W, count - k), p.OC - oc, to + k, K);
        }
    }

    Conv2d p, grad_image;
    Schedule s;
};

// Cycles for tiles of m x m: the products, the transforms of tiles and the way of the sums through
// memory and their transform, which the threads share, and the output's bytes, which they do not.
double tile_cost(const Conv2d& p, Index m, int threads) {
    const auto [W, positions, tiles, ic, oc] = WinogradExtents(p, m);
    const double work =
        positions * (1.15 * tiles * ic * W * oc + 6 * tiles * (ic + oc) + 5 * ic * W * oc);
    return work / threads + 0.25 * double(p.OC * p.IC * p.KH * p.KW * size_of(p.dtype));
}

Index best_tile(const Conv2d& p) {
    if (p.KH == 5) return 2;
    return tile_cost(p, 2, 2) < tile_cost(p, 4, 2) ? 2 : 4;
}

template <typename F>
auto with_plan(const Conv2d& p, Index tile, F&& f) {
    return with_type(p.dtype, [&](auto zero) {
        using T = decltype(zero);
        if (p.KH == 5) return f(std::type_identity<WinogradGradWeight<T, 2, 5>>{});
        if (tile == 2) return f(std::type_identity<WinogradGradWeight<T, 2, 3>>{});
        if (tile == 4) return f(std::type_identity<WinogradGradWeight<T, 4, 3>>{});
        return f(std::type_identity<WinogradGradWeight<T, 6, 3>>{});
    });
}

// `tile` is m, 0: the best for the shape.
template <Index tile>
class WinogradAlgorithm final : public Algorithm<Conv2dGradWeight> {
  public:
    std::string_view name() const override { return winograd_name(tile); }

    std::string refusal(const Conv2dGradWeight& p) const override {
        if (p.forward.groups != 1) return "the channels are in groups";
        return winograd_refusal(p.forward, tile, 2);
    }

    std::size_t workspace_bytes(const Conv2dGradWeight& p) const override {
        return with_plan(p.forward, chosen(p), [&](auto plan) {
            return decltype(plan)::type::workspace_bytes(p.forward);
        });
    }

    bool elected() const override { return !tile; }

    double cost(const Conv2dGradWeight& p) const override {
        return tile_cost(p.forward, chosen(p), p.forward.threads);
    }

    std::unique_ptr<Plan> plan(const Conv2dGradWeight& p, const WeightSet&) const override {
        return with_plan(p.forward, chosen(p), [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p.forward);
        });
    }

  private:
    static Index chosen(const Conv2dGradWeight& p) { return tile ? tile : best_tile(p.forward); }
};

const Register<Conv2dGradWeight, WinogradAlgorithm<0>> best;
const Register<Conv2dGradWeight, WinogradAlgorithm<2>> f2;
const Register<Conv2dGradWeight, WinogradAlgorithm<4>> f4;
const Register<Conv2dGradWeight, WinogradAlgorithm<6>> f6;

}  // namespace
}  // namespace ai3
