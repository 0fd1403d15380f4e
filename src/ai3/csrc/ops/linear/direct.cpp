// For few input rows dot products with the weight as it lies, limited by reading it. For more the
// direct convolution by channels, which packs the weight: input rows are pixels.

#include "ops/conv2d/op.hpp"
#include "ops/linear/rows.hpp"

namespace ai3 {
namespace {

bool is_convolution(const Linear& p) {
    return p.M >= few_rows && p.OC >= channel_block(p.dtype) && p.IC;
}

Conv2d convolution(const Linear& p) {
    const auto bias = p.has_bias ? std::optional(Shape{p.OC}) : std::nullopt;
    const Spec rows{p.dtype, {1, p.IC, 1, p.M}, Layout::channels_last};
    Conv2d conv({rows}, WeightSet::of_shapes(p.dtype, {p.OC, p.IC, 1, 1}, bias), {}, p.threads);
    conv.has_residual = p.has_residual;
    conv.activation = p.activation;
    conv.activation_parameter = p.activation_parameter;
    return conv;
}

class Direct final : public Algorithm<Linear> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Linear& p) const override {
        return is_convolution(p) ? direct_conv2d().workspace_bytes(convolution(p)) : 0;
    }

    std::unique_ptr<Plan> plan(const Linear& p, const WeightSet& weights) const override {
        if (is_convolution(p)) return direct_conv2d().plan(convolution(p), weights);
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<RowsPlan<decltype(zero)>>(p, weights);
        });
    }

  private:
    static const Algorithm<Conv2d>& direct_conv2d() {
        return Registry<Conv2d>::instance().at("direct");
    }
};

const Register<Linear, Direct> registered;

}  // namespace
}  // namespace ai3
