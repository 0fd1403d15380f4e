// Implicit matrix product: panels of the im2col matrix are formed only while they are packed for
// the product, one cache block at a time; where their pixels lie is found out on the way.
//
// Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv 1410.0759; San Juan et
// al., "High Performance and Portable Convolution Operators for Multicore Processors", arXiv
// 2005.06410.

#include "ops/conv2d/columns.hpp"
#include "ops/conv2d/gemm_cost.hpp"
#include "ops/conv2d/gemm_plan.hpp"
#include "ops/conv2d/implicit_bfloat16.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class ImplicitColumns {
  public:
    ImplicitColumns(const Conv2d& problem, const GemmBlocks<T>& blocks, const WeightSet&)
        : p(problem), b(blocks), pieces(p) {}

    static std::size_t shared_bytes(const Conv2d&) { return 0; }
    static std::size_t thread_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return b.packed_bytes(p) + list_bytes(p, b);
    }
    void prepare(const T*, T*, std::byte*, std::size_t) const {}

    Rows<T> rows(const T* image, const T*, std::byte* own, const RowBlock& block, Index panel,
                 bool begins) const {
        T* const packed = reinterpret_cast<T*>(own);
        auto& list = *reinterpret_cast<List*>(own + b.packed_bytes(p));
        // Blocks of whole channels have the same pieces.
        if (begins || b.tap_blocks > 1) {
            Piece* end = list.pieces;
            for (Index tap = 0; tap < block.taps; ++tap)
                pieces.each(block.tap + tap, b.first(panel), b.pixels(panel), tap * b.pitch,
                            [&](const Piece& piece) { *end++ = piece; });
            list.count = end - list.pieces;
        }
        pieces.copy_channels(list.pieces, list.pieces + list.count,
                             image + block.channel * p.IH * p.IW, block.channels, packed,
                             block.taps * b.pitch);
        return {packed, b.pitch};
    }

  private:
    struct List {
        Index count;
        Piece pieces[1];
    };
    static std::size_t list_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return sizeof(List) +
               std::size_t(b.block_taps * Pieces<T>(p).most(b.pitch)) * sizeof(Piece);
    }

    Conv2d p;
    GemmBlocks<T> b;
    Pieces<T> pieces;
};

template <typename F>
auto with_bfloat16(const Conv2d& p, F&& f) {
    const auto to = [&]<typename O>(O) {
        return multiplies_pairs() ? f(std::type_identity<ImplicitBfloat16Plan<O, bfloat16>>{})
                                  : f(std::type_identity<ImplicitBfloat16Plan<O, float>>{});
    };
    return p.output_dtype == DType::bf16 ? to(bfloat16{}) : to(float{});
}

class ImplicitGemm final : public GemmAlgorithm<ImplicitColumns> {
    using Family = GemmAlgorithm<ImplicitColumns>;

  public:
    std::string_view name() const override { return "implicit gemm"; }
    bool takes_bfloat16() const override { return true; }

    std::string refusal(const Conv2d& p) const override {
        const std::string reason = Family::refusal(p);
        return reason.empty() ? refuse_to_narrow(p) : reason;
    }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        if (p.dtype != DType::bf16) return Family::workspace_bytes(p);
        return with_bfloat16(p,
                             [&](auto plan) { return decltype(plan)::type::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        if (p.dtype != DType::bf16) return Family::plan(p, weights);
        return with_bfloat16(p, [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p, weights);
        });
    }

    double cost(const Conv2d& p) const override {
        if (p.dtype == DType::bf16)
            return with_bfloat16(p, [&](auto plan) { return decltype(plan)::type::cost(p); }) /
                   p.threads;
        return with_type(p.dtype, [&](auto zero) { return gemm_cost<decltype(zero)>(p, 17); });
    }
};

const Register<Conv2d, ImplicitGemm> registered;

}  // namespace
}  // namespace ai3
