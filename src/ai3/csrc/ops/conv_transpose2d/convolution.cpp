// The convolutions of conv2d_grad_input; then the bias, in a pass of its own.

#include "kernels/elementwise.hpp"
#include "ops/conv_transpose2d/op.hpp"

namespace ai3 {
namespace {

class ByConvolution final : public Algorithm<ConvTranspose2d> {
  public:
    explicit ByConvolution(const Algorithm<Conv2dGradInput>& algorithm) : algorithm_(algorithm) {}

    std::string_view name() const override { return algorithm_.name(); }
    bool takes_bfloat16() const override { return algorithm_.takes_bfloat16(); }
    bool elected() const override { return algorithm_.elected(); }

    std::string refusal(const ConvTranspose2d& p) const override {
        return algorithm_.refusal(p.product);
    }

    std::size_t workspace_bytes(const ConvTranspose2d& p) const override {
        return product_bytes(p) + (in_place(p) ? 0 : p.product.output().bytes());
    }

    double cost(const ConvTranspose2d& p) const override { return algorithm_.cost(p.product); }

    std::unique_ptr<Plan> plan(const ConvTranspose2d& p, const WeightSet& weights) const override {
        if (!weights.get(1)) return algorithm_.plan(p.product, weights);
        if (p.output_dtype == DType::bf16) return with_bias<bfloat16, bfloat16>(p, weights);
        return with_real(p.product.forward.dtype, [&](auto zero) {
            using T = decltype(zero);
            return with_bias<T, Lane<T>>(p, weights);
        });
    }

  private:
    // Whether the product is written where the output is.
    static bool in_place(const ConvTranspose2d& p) {
        return p.product.output().dtype == p.output_dtype;
    }
    std::size_t product_bytes(const ConvTranspose2d& p) const {
        return align_up(algorithm_.workspace_bytes(p.product));
    }

    // From T to O, with a bias.
    template <typename T, typename O>
    std::unique_ptr<Plan> with_bias(const ConvTranspose2d& p, const WeightSet& weights) const {
        using Sum = Lane<T>;
        std::shared_ptr<const Plan> product = algorithm_.plan(p.product, weights);
        std::vector<Sum> bias;
        with_weights<T>(weights,
                        [&](const auto*, const auto* from) { bias.assign(from, from + p.OC); });
        return make_plan([=, OC = p.OC, planes = p.planes, plane = p.plane, threads = p.threads,
                          beside = in_place(p) ? 0 : product_bytes(p)](
                             const void* const* inputs, void* output, std::byte* workspace) {
            O* out = static_cast<O*>(output);
            Sum* sums;
            if constexpr (std::is_same_v<O, Sum>)
                sums = out;
            else
                sums = reinterpret_cast<Sum*>(workspace + beside);
            product->run(inputs, sums, workspace);
            parallel_ranges(threads, planes, std::max<Index>(elementwise_grain / plane, 1),
                            [&](Index i, Index end) {
                                for (; i < end; ++i) {
                                    const Vec<Sum> added = broadcast(bias[std::size_t(i % OC)]);
                                    compute_elements(out, i * plane, (i + 1) * plane, false,
                                                     [&](auto at) { return at(sums) + added; });
                                }
                            });
        });
    }

    const Algorithm<Conv2dGradInput>& algorithm_;
};

const RegisterDerived<ConvTranspose2d, Conv2dGradInput, ByConvolution> registered;

}  // namespace
}  // namespace ai3
