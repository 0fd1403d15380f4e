// Tiles of rows of `a` by panels of columns of `b`. Where a panel is used for several tiles it is
// packed, a block along K at a time. Tasks are blocks of rows of one product.

#include "kernels/convert.hpp"
#include "kernels/product_tile.hpp"
#include "ops/matmul/op.hpp"

namespace ai3 {
namespace {

// How a product is shared out: rows of it, while there are fewer products than threads can use.
struct Shares {
    Index parts;

    explicit Shares(Matmul& p) {
        constexpr double least_work = 1 << 18;
        const double work = double(p.batch) * double(p.M) * double(p.K) * double(p.N);
        p.threads = threads_worth(work, least_work, p.threads);
        const Index wanted =
            p.threads == 1 ? 1 : Index(std::clamp(work / least_work, 2.0, 4.0 * p.threads));
        const Index tile = ProductTile<float>::max_rows, most = (p.M + tile - 1) / tile;
        parts = std::clamp<Index>((wanted + p.batch - 1) / p.batch, 1, std::max<Index>(most, 1));
    }
};

template <typename T>
class MatmulPlan final : public Plan {
    using Tile = ProductTile<T>;
    static constexpr Index block_k = 2048 / sizeof(T);
    static constexpr Index panel = Tile::columns;

  public:
    explicit MatmulPlan(const Matmul& problem) : p(problem), parts(Shares(p).parts) {}

    static std::size_t workspace_bytes(const Matmul& p) {
        return std::size_t(p.threads * block_k * panel) * sizeof(T);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        parallel_for(p.threads, p.batch * parts, [&](Index task, int thread) {
            const Index i = task / parts, part = task % parts;
            const auto [at_a, at_b] = p.offsets(i);
            const Index first = p.M * part / parts, last = p.M * (part + 1) / parts;
            multiply(static_cast<const T*>(inputs[0]) + at_a + first * p.K,
                     static_cast<const T*>(inputs[1]) + at_b, last - first,
                     static_cast<T*>(output) + (i * p.M + first) * p.N,
                     reinterpret_cast<T*>(workspace) + thread * block_k * panel);
        });
    }

  private:
    void multiply(const T* a, const T* b, Index rows, T* out, T* packed) const {
        const bool packs = rows > 2 * Tile::max_rows && p.N > panel;
        for (Index n = 0; n < p.N; n += panel) {
            const Index columns = std::min(panel, p.N - n);
            for (Index k = 0; k == 0 || k < p.K; k += block_k) {
                const Index depth = std::min(block_k, p.K - k);
                const T* from = b + k * p.N + n;
                if (packs) pack(from, columns, depth, packed);
                for_row_tiles<T>(rows, [&](Index row, Index count) {
                    Tile{a + row * p.K + k,
                         p.K,
                         packs ? packed : from,
                         packs ? panel : p.N,
                         depth,
                         out + row * p.N + n,
                         p.N,
                         k > 0}
                        .compute(count, columns);
                });
            }
        }
    }

    void pack(const T* from, Index columns, Index depth, T* to) const {
        constexpr Index W = lanes<T>;
        for (Index v = 0; v < columns; v += W) {
            const auto live = LaneMask<T>::first(std::min(W, columns - v));
            for (Index k = 0; k < depth; ++k)
                store(to + k * panel + v, live.load(from + k * p.N + v));
        }
    }

    Matmul p;
    Index parts;
};

// Of bfloat16: a panel of `b` and a tile's rows of `a` are converted to float as they are packed,
// whole along K, so that sums stay in registers and are rounded once.
template <>
class MatmulPlan<bfloat16> final : public Plan {
    using T = bfloat16;
    using Tile = ProductTile<float>;
    static constexpr Index panel = Tile::columns, W = lanes<float>;

    static Index elements_of(const Matmul& p) {
        return p.K * (panel + Tile::max_rows) + Tile::max_rows * panel;
    }

  public:
    explicit MatmulPlan(const Matmul& problem) : p(problem), parts(Shares(p).parts) {}

    static std::size_t workspace_bytes(const Matmul& p) {
        return std::size_t(p.threads) * std::size_t(elements_of(p)) * sizeof(float);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        parallel_for(p.threads, p.batch * parts, [&](Index task, int thread) {
            const Index i = task / parts, part = task % parts;
            const auto [at_a, at_b] = p.offsets(i);
            const Index first = p.M * part / parts, last = p.M * (part + 1) / parts;
            multiply(static_cast<const T*>(inputs[0]) + at_a + first * p.K,
                     static_cast<const T*>(inputs[1]) + at_b, last - first,
                     static_cast<T*>(output) + (i * p.M + first) * p.N,
                     reinterpret_cast<float*>(workspace) + thread * elements_of(p));
        });
    }

  private:
    void multiply(const T* a, const T* b, Index rows, T* out, float* memory) const {
        float *packed = memory, *tile = packed + p.K * panel, *sums = tile + p.K * Tile::max_rows;
        for (Index n = 0; n < p.N; n += panel) {
            const Index columns = std::min(panel, p.N - n);
            for (Index v = 0; v < columns; v += W) {
                const auto live = LaneMask<T>::first(std::min(W, columns - v));
                for (Index k = 0; k < p.K; ++k)
                    store(packed + k * panel + v, live.load(b + k * p.N + n + v));
            }
            for_row_tiles<float>(rows, [&](Index row, Index count) {
                convert(a + row * p.K, tile, count * p.K, 1);
                Tile{tile, p.K, packed, panel, p.K, sums, panel}.compute(count, columns);
                for (Index r = 0; r < count; ++r)
                    convert(sums + r * panel, out + (row + r) * p.N + n, columns, 1);
            });
        }
    }

    Matmul p;
    Index parts;
};

class Direct final : public Algorithm<Matmul> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const Matmul& p) const override {
        return with_real(p.dtype,
                         [&](auto zero) { return MatmulPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Matmul& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<MatmulPlan<decltype(zero)>>(p);
        });
    }
};

const Register<Matmul, Direct> registered;

}  // namespace
}  // namespace ai3
