// A copy of the memory, or nothing where input and output are the same memory.

#include <cstring>

#include "ops/flatten/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 17;

class Direct final : public Algorithm<Flatten> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Flatten& p, const WeightSet&) const override {
        return make_plan([bytes = Index(p.output().bytes()), threads = p.threads](
                             const void* const* inputs, void* output, std::byte*) {
            if (inputs[0] == output) return;
            const auto* in = static_cast<const std::byte*>(inputs[0]);
            auto* out = static_cast<std::byte*>(output);
            parallel_ranges(threads, bytes, grain, [&](Index begin, Index end) {
                std::memcpy(out + begin, in + begin, std::size_t(end - begin));
            });
        });
    }
};

const Register<Flatten, Direct> registered;

}  // namespace
}  // namespace ai3
