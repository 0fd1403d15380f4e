// The convolutions of conv2d_grad_input; then the bias, in a pass of its own.

#include "kernels/elementwise.hpp"
#include "ops/conv_transpose2d/op.hpp"

namespace ai3 {
namespace {

class ByConvolution final : public Algorithm<ConvTranspose2d> {
  public:
    explicit ByConvolution(const Algorithm<Conv2dGradInput>& algorithm) : algorithm_(algorithm) {}

    std::string_view name() const override { return algorithm_.name(); }

    std::string refusal(const ConvTranspose2d& p) const override {
        return algorithm_.refusal(p.product);
    }

    std::size_t workspace_bytes(const ConvTranspose2d& p) const override {
        return algorithm_.workspace_bytes(p.product);
    }

    std::unique_ptr<Plan> plan(const ConvTranspose2d& p, const WeightSet& weights) const override {
        std::shared_ptr<const Plan> product = algorithm_.plan(p.product, weights);
        return with_type(p.product.forward.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            return make_plan([=, bias = weights.data<T>(1), OC = p.OC, planes = p.planes,
                              plane = p.plane, threads = p.threads](
                                 const void* const* inputs, void* output, std::byte* workspace) {
                product->run(inputs, output, workspace);
                if (!bias) return;
                T* out = static_cast<T*>(output);
                parallel_ranges(threads, planes, std::max<Index>(elementwise_grain / plane, 1),
                                [&](Index i, Index end) {
                                    for (; i < end; ++i) {
                                        const Vec<T> added = broadcast(bias[i % OC]);
                                        compute_elements(out, i * plane, (i + 1) * plane, false,
                                                         [&](auto at) { return at(out) + added; });
                                    }
                                });
            });
        });
    }

  private:
    const Algorithm<Conv2dGradInput>& algorithm_;
};

const RegisterDerived<ConvTranspose2d, Conv2dGradInput, ByConvolution> registered;

}  // namespace
}  // namespace ai3
