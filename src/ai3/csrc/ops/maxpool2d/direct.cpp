// The largest of each window's rows, then of its columns.

#include <limits>

#include "ops/maxpool2d/channels.hpp"
#include "ops/maxpool2d/op.hpp"
#include "ops/maxpool2d/sliding.hpp"

namespace ai3 {
namespace {

template <typename T>
struct Largest {
    static Vec<T> neutral() { return broadcast(-std::numeric_limits<T>::infinity()); }
    static Vec<T> combine(Vec<T> a, Vec<T> b) { return larger<T>(a, b); }
    static Vec<T> finish(Vec<T> v, Index, Index) { return v; }
    static Vec<T> finish_channels(Vec<T> v, Index, Index) { return v; }
    static bool uniform() { return true; }
};

template <typename T>
using Sliding = SlidingPlan<T, Largest<Lane<T>>>;

class Direct final : public Algorithm<MaxPool2d> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::size_t workspace_bytes(const MaxPool2d& p) const override {
        return with_real(p.dtype, [&](auto zero) {
            return Sliding<decltype(zero)>::workspace_bytes(axes(p), p.threads);
        });
    }

    std::unique_ptr<Plan> plan(const MaxPool2d& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            if (!p.dense())
                return std::make_unique<ChannelsPlan<T, Largest<Lane<T>>>>(p, axes(p),
                                                                           Largest<Lane<T>>{});
            return std::make_unique<Sliding<T>>(p.N * p.C, axes(p), p.threads, Largest<Lane<T>>{});
        });
    }
};

const Register<MaxPool2d, Direct> registered;

}  // namespace
}  // namespace ai3
