// Implicit matrix product whose addresses are computed ahead: an indirection table tells where in
// the input the pixels of each panel lie under each element of the kernel. It is built once for a
// shape, packing only follows it.
//
// cuDNN's name; Chetlur et al., arXiv 1410.0759. Dukhan, "The Indirect Convolution Algorithm",
// arXiv 1907.02129.

#include "ops/conv2d/columns.hpp"
#include "ops/conv2d/gemm_cost.hpp"
#include "ops/conv2d/gemm_plan.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class PrecomputedColumns {
  public:
    PrecomputedColumns(const Conv2d& problem, const GemmBlocks<T>& blocks, const WeightSet& weights)
        : p(problem), b(blocks), pieces(p), table(b.in_place ? nullptr : build(weights)) {}

    static std::size_t shared_bytes(const Conv2d&) { return 0; }
    static std::size_t thread_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return b.packed_bytes(p);
    }
    void prepare(const T*, T*, std::byte*, std::size_t) const {}

    Rows<T> rows(const T* image, const T*, std::byte* own, const RowBlock& block, Index panel,
                 bool) const {
        T* const packed = reinterpret_cast<T*>(own);
        const Index* start = table->as<Index>() + panel * b.tap_blocks + block.tap / b.block_taps;
        const Piece* list = reinterpret_cast<const Piece*>(table->data() + starts_bytes());
        pieces.copy_channels(list + start[0], list + start[1], image + block.channel * p.IH * p.IW,
                             block.channels, packed, block.taps * b.pitch);
        return {packed, b.pitch};
    }

  private:
    // For each panel and block of the kernel's elements where its pieces begin, then the pieces.
    std::shared_ptr<const Buffer> build(const WeightSet& weights) const {
        Index count = 0;
        for_each([&](Index, const Piece&) { ++count; });
        const std::size_t bytes = starts_bytes() + std::size_t(count) * sizeof(Piece);
        return weights.packed(name(), bytes, [&](Buffer& buffer) {
            Index* start = buffer.as<Index>();
            Piece* list = reinterpret_cast<Piece*>(buffer.data() + starts_bytes());
            Index at = 0;
            std::fill(start, start + b.panels * b.tap_blocks + 1, count);
            for_each([&](Index list_of, const Piece& piece) {
                start[list_of] = std::min(start[list_of], at);
                list[at++] = piece;
            });
        });
    }

    // Calls put(panel and block, piece) in the order of the table.
    template <typename Put>
    void for_each(Put&& put) const {
        for (Index panel = 0; panel < b.panels; ++panel)
            for (Index tap = 0; tap < b.taps; ++tap)
                pieces.each(tap, b.first(panel), b.pixels(panel), tap % b.block_taps * b.pitch,
                            [&](const Piece& piece) {
                                put(panel * b.tap_blocks + tap / b.block_taps, piece);
                            });
    }

    std::size_t starts_bytes() const {
        return align_up(std::size_t(b.panels * b.tap_blocks + 1) * sizeof(Index));
    }

    // All that the table depends on.
    std::string name() const {
        std::string text = "indirection";
        for (Index value :
             {p.IH, p.IW, p.OH, p.OW, p.KH, p.KW, p.stride_h, p.stride_w, p.dilation_h,
              p.dilation_w, p.pad_top, p.pad_left, Index(p.padding_mode), b.panels})
            (text += ' ') += std::to_string(value);
        return text;
    }

    Conv2d p;
    GemmBlocks<T> b;
    Pieces<T> pieces;
    std::shared_ptr<const Buffer> table;
};

class ImplicitPrecompGemm final : public GemmAlgorithm<PrecomputedColumns> {
  public:
    std::string_view name() const override { return "implicit precomp gemm"; }

    double cost(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) { return gemm_cost<decltype(zero)>(p, 0); });
    }
};

const Register<Conv2d, ImplicitPrecompGemm> registered;

}  // namespace
}  // namespace ai3
