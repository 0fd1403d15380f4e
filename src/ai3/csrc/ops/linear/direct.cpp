// For few input rows dot products, limited by reading the weight; for many a blocked matrix
// product, with dot products for what whole vectors of rows leave over.

#include "ops/linear/panels.hpp"
#include "ops/linear/rows.hpp"

namespace ai3 {
namespace {

// How many of the rows the matrix product takes.
template <typename T>
Index rows_in_panels(const Linear& p) {
    if (p.M < 96 || p.OC < lanes<T>) return 0;
    if (PanelsPlan<T>::has_weight_lanes(p)) return p.M;
    const Index rest = p.M % lanes<T>;
    return rest * 2 <= lanes<T> ? p.M - rest : p.M;
}

template <typename T>
class DirectPlan final : public Plan {
  public:
    DirectPlan(const Linear& p, const WeightSet& weights)
        : IC(p.IC), OC(p.OC), has_residual(p.has_residual) {
        Linear part = p;
        first = part.M = rows_in_panels<T>(p);
        if (first > 0) panels.emplace(part, weights);
        part.M = p.M - first;
        if (part.M > 0) rows.emplace(part, weights);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        if (panels) panels->run(inputs, output, workspace);
        if (rows) {
            const void* rest[2] = {static_cast<const T*>(inputs[0]) + first * IC};
            if (has_residual) rest[1] = static_cast<const T*>(inputs[1]) + first * OC;
            rows->run(rest, static_cast<T*>(output) + first * OC, nullptr);
        }
    }

  private:
    Index IC, OC, first;
    bool has_residual;
    std::optional<PanelsPlan<T>> panels;
    std::optional<RowsPlan<T>> rows;
};

class Direct final : public Algorithm<Linear> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const Linear& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return rows_in_panels<T>(p) ? PanelsPlan<T>::workspace_bytes(p) : 0;
        });
    }

    std::unique_ptr<Plan> plan(const Linear& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<DirectPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<Linear, Direct> registered;

}  // namespace
}  // namespace ai3
