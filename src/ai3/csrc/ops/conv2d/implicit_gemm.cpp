// Implicit matrix product: panels of the im2col matrix are formed only while they are packed for
// the product, one cache block at a time.
//
// Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv 1410.0759; San Juan et
// al., "High Performance and Portable Convolution Operators for Multicore Processors", arXiv
// 2005.06410.

#include "ops/conv2d/gemm_plan.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class ImplicitColumns {
  public:
    explicit ImplicitColumns(const Conv2d& problem) : p(problem) {}

    std::size_t bytes() const { return 0; }
    void prepare(const T*, T*) const {}

    void pack(const T* image, const T*, Index group, Index k, Index count, Index pixel,
              Index pixels, T* panels) const {
        constexpr Index width = panel_width<T>;
        for (Index begin = 0; begin < pixels; begin += width, panels += count * width) {
            const Index n = std::min(width, pixels - begin);
            for (Index row = 0; row < count; ++row) {
                const Index tap = (k + row) % (p.KH * p.KW), ic = (k + row) / (p.KH * p.KW);
                const T* plane = image + (group * p.group_ic() + ic) * p.IH * p.IW;
                T* to = panels + row * width;
                copy_columns(p, plane, tap / p.KW, tap % p.KW, pixel + begin, n, to);
                std::fill(to + n, to + width, T(0));
            }
        }
    }

  private:
    Conv2d p;
};

class ImplicitGemm final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "implicit gemm"; }

    std::string refusal(const Conv2d& p) const override { return refuse_layouts(p); }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return GemmPlan<T, ImplicitColumns<T>>::workspace_bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            return std::make_unique<GemmPlan<T, ImplicitColumns<T>>>(p, weights);
        });
    }
};

const Register<Conv2d, ImplicitGemm> registered;

}  // namespace
}  // namespace ai3
