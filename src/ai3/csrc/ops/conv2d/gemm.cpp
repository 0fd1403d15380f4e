// Explicit matrix product: the im2col matrix of an image is formed whole, then multiplied.
//
// Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document
// Processing", 2006; Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv
// 1410.0759.

#include "ops/conv2d/gemm_plan.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class Im2col {
  public:
    explicit Im2col(const Conv2d& problem) : p(problem), K(p.group_ic() * p.KH * p.KW) {}

    std::size_t bytes() const {
        return std::size_t(checked_product(p.groups * K, p.OH * p.OW)) * sizeof(T);
    }

    void prepare(const T* image, T* matrix) const {
        const Index P = p.OH * p.OW;
        parallel_for(p.threads, p.groups * K, [&](Index row, int) {
            const Index tap = row % (p.KH * p.KW), channel = row / (p.KH * p.KW);
            copy_columns(p, image + channel * p.IH * p.IW, tap / p.KW, tap % p.KW, 0, P,
                         matrix + row * P);
        });
    }

    void pack(const T*, const T* matrix, Index group, Index k, Index count, Index pixel,
              Index pixels, T* panels) const {
        constexpr Index width = panel_width<T>;
        const Index P = p.OH * p.OW;
        const T* from = matrix + (group * K + k) * P + pixel;
        for (Index begin = 0; begin < pixels; begin += width, panels += count * width) {
            const Index n = std::min(width, pixels - begin);
            for (Index row = 0; row < count; ++row) {
                const T* source = from + row * P + begin;
                T* to = panels + row * width;
                if (n == width)
                    for (Index v = 0; v < width; v += lanes<T>) store(to + v, load(source + v));
                else
                    std::fill(std::copy(source, source + n, to), to + width, T(0));
            }
        }
    }

  private:
    Conv2d p;
    Index K;
};

class Gemm final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "gemm"; }

    std::string refusal(const Conv2d& p) const override {
        const double elements = double(p.IC) * double(p.KH * p.KW) * double(p.OH) * double(p.OW);
        if (elements >= double(Index{1} << 40))
            return "its im2col matrix has 2^40 elements or more";
        return refuse_layouts(p);
    }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return GemmPlan<T, Im2col<T>>::workspace_bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            return std::make_unique<GemmPlan<T, Im2col<T>>>(p, weights);
        });
    }
};

const Register<Conv2d, Gemm> registered;

}  // namespace
}  // namespace ai3
