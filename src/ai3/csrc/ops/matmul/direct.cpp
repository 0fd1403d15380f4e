// Tiles of rows of `a` by panels of columns of `b`. Where a panel is used for several tiles it is
// packed, a block along K at a time. Tasks are blocks of rows of one product.

#include "kernels/product_tile.hpp"
#include "ops/matmul/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class MatmulPlan final : public Plan {
    using Tile = ProductTile<T>;
    static constexpr Index block_k = 2048 / sizeof(T);
    static constexpr Index panel = Tile::columns;

  public:
    explicit MatmulPlan(const Matmul& problem) : p(problem) {
        // Rows of a product are shared out while there are fewer products than threads can use.
        constexpr double least_work = 1 << 18;
        const double work = double(p.batch) * double(p.M) * double(p.K) * double(p.N);
        p.threads = threads_worth(work, least_work, p.threads);
        const Index wanted =
            p.threads == 1 ? 1 : Index(std::clamp(work / least_work, 2.0, 4.0 * p.threads));
        const Index most = (p.M + Tile::max_rows - 1) / Tile::max_rows;
        parts = std::clamp<Index>((wanted + p.batch - 1) / p.batch, 1, std::max<Index>(most, 1));
    }

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

class Direct final : public Algorithm<Matmul> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Matmul& p) const override {
        return with_type(p.dtype,
                         [&](auto zero) { return MatmulPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Matmul& p, const WeightSet&) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<MatmulPlan<decltype(zero)>>(p);
        });
    }
};

const Register<Matmul, Direct> registered;

}  // namespace
}  // namespace ai3
