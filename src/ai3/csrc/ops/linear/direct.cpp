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
    conv.output_dtype = p.output_dtype;
    conv.has_residual = p.has_residual;
    conv.activation = p.activation;
    conv.activation_parameter = p.activation_parameter;
    return conv;
}

template <typename F>
auto with_rows(const Linear& p, F&& f) {
    if (p.dtype != DType::bf16)
        return with_type(
            p.dtype, [&](auto zero) { return f(std::type_identity<RowsPlan<decltype(zero)>>{}); });
    return p.output_dtype == DType::bf16 ? f(std::type_identity<RowsPlan<bfloat16>>{})
                                         : f(std::type_identity<RowsPlan<bfloat16, float>>{});
}

class Direct final : public Algorithm<Linear> {
  public:
    std::string_view name() const override { return "direct"; }

    bool takes_bfloat16() const override { return true; }

    std::string refusal(const Linear& p) const override {
        return p.dtype == DType::f32 && p.output_dtype != p.dtype ? "it writes float32" : "";
    }

    std::size_t workspace_bytes(const Linear& p) const override {
        if (is_convolution(p)) return direct_conv2d().workspace_bytes(convolution(p));
        return with_rows(p, [&](auto plan) { return decltype(plan)::type::workspace_bytes(p); });
    }

    // A weight that is read once is limited by memory.
    double cost(const Linear& p) const override {
        if (is_convolution(p)) return direct_conv2d().cost(convolution(p));
        constexpr double bytes_a_cycle = 12;
        return double(p.OC * p.IC) * double(size_of(p.dtype)) / bytes_a_cycle / p.threads;
    }

    std::unique_ptr<Plan> plan(const Linear& p, const WeightSet& weights) const override {
        if (is_convolution(p)) return direct_conv2d().plan(convolution(p), weights);
        return with_rows(p, [&](auto plan) -> std::unique_ptr<Plan> {
            return std::make_unique<typename decltype(plan)::type>(p, weights);
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
