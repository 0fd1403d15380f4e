// For few input rows dot products, limited by reading the weight; for many a blocked matrix product.

#include "ops/linear/panels.hpp"
#include "ops/linear/rows.hpp"

namespace ai3 {
namespace {

bool few_rows(const Linear& p) { return p.M < 96 || p.OC < 16; }

class Direct final : public Algorithm<Linear> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Linear& p) const override {
        if (few_rows(p)) return 0;
        return with_type(p.dtype,
                         [&](auto zero) { return PanelsPlan<decltype(zero)>::workspace_bytes(p); });
    }

    std::unique_ptr<Plan> plan(const Linear& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (few_rows(p)) return std::make_unique<RowsPlan<T>>(p, weights);
            return std::make_unique<PanelsPlan<T>>(p, weights);
        });
    }
};

const Register<Linear, Direct> registered;

}  // namespace
}  // namespace ai3
