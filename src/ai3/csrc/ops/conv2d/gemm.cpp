// Explicit matrix product: the im2col matrix of an image is formed whole, then multiplied.
//
// Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document
// Processing", 2006; Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv
// 1410.0759.

#include "ops/conv2d/columns.hpp"
#include "ops/conv2d/gemm_cost.hpp"
#include "ops/conv2d/gemm_plan.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class Im2col {
    // Pixels whose pieces are found at a time, for all channels.
    static constexpr Index strip = 512;

  public:
    Im2col(const Conv2d& problem, const GemmBlocks<T>& blocks, const WeightSet&)
        : p(problem), b(blocks), pieces(p) {}

    static std::size_t shared_bytes(const Conv2d& p) {
        return std::size_t(checked_product(p.IC * p.KH * p.KW, p.OH * p.OW)) * sizeof(T);
    }
    static std::size_t thread_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return std::size_t(b.taps * Pieces<T>(p).most(std::min(strip, b.P))) * sizeof(Piece);
    }

    // The matrix (IC, KH, KW, OH, OW).
    void prepare(const T* image, T* matrix, std::byte* own, std::size_t own_stride) const {
        const Index strips = (b.P + strip - 1) / strip;
        const Index parts = std::min<Index>(p.IC, (2 * p.threads + strips - 1) / strips);
        parallel_for(p.threads, strips * parts, [&](Index i, int thread) {
            const Index first = i / parts * strip, pixels = std::min(strip, b.P - first);
            Piece* const list = reinterpret_cast<Piece*>(own + std::size_t(thread) * own_stride);
            const Index begin = p.IC * (i % parts) / parts, end = p.IC * (i % parts + 1) / parts;
            for (Index tap = 0; tap < b.taps; ++tap) {
                Piece* last = list;
                pieces.each(tap, first, pixels, first,
                            [&](const Piece& piece) { *last++ = piece; });
                for (Index c = begin; c < end; ++c)
                    pieces.copy(list, last, image + c * p.IH * p.IW,
                                matrix + (c * b.taps + tap) * b.P, first + pixels);
            }
        });
    }

    Rows<T> rows(const T*, const T* matrix, std::byte*, const RowBlock& block, Index panel,
                 bool) const {
        return {matrix + (block.channel * b.taps + block.tap) * b.P + b.first(panel), b.P};
    }

  private:
    Conv2d p;
    GemmBlocks<T> b;
    Pieces<T> pieces;
};

class Gemm final : public GemmAlgorithm<Im2col> {
  public:
    std::string_view name() const override { return "gemm"; }

    std::string refusal(const Conv2d& p) const override {
        const double elements = double(p.IC) * double(p.KH * p.KW) * double(p.OH) * double(p.OW);
        if (elements >= double(Index{1} << 40))
            return "its im2col matrix has 2^40 elements or more";
        return GemmAlgorithm::refusal(p);
    }

    double cost(const Conv2d& p) const override {
        // The matrix is written by pieces too, and goes through memory twice.
        constexpr double matrix_byte = 0.12;
        return with_type(p.dtype, [&](auto zero) {
            const double cost = gemm_cost<decltype(zero)>(p, 17);
            const auto pointwise = p.KH * p.KW == 1 && p.stride_h == 1 && p.stride_w == 1;
            return pointwise && !p.padded()
                       ? cost
                       : cost + matrix_byte * double(p.N) *
                                    double(Im2col<decltype(zero)>::shared_bytes(p));
        });
    }
};

const Register<Conv2d, Gemm> registered;

}  // namespace
}  // namespace ai3
