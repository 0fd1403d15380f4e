// Each thread copies an even share of the output's memory, whichever inputs that is made of.

#include <cstring>

#include "ops/concat/op.hpp"

namespace ai3 {
namespace {

constexpr Index grain = 1 << 17;

template <typename P>
class Direct final : public Algorithm<P> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const P& p, const WeightSet&) const override {
        std::vector<Index> begin = p.begin;
        for (Index& at : begin) at *= Index(size_of(p.dtype));
        return make_plan([begin, rows = p.rows, threads = p.threads](const void* const* inputs,
                                                                     void* output, std::byte*) {
            auto* out = static_cast<std::byte*>(output);
            parallel_ranges(threads, rows * begin.back(), grain, [&](Index at, Index end) {
                Index row = at / begin.back(), column = at % begin.back();
                auto next = std::upper_bound(begin.begin(), begin.end(), column);
                while (at < end) {
                    const Index first = next[-1], n = std::min(*next - column, end - at);
                    const auto* in =
                        static_cast<const std::byte*>(inputs[next - begin.begin() - 1]);
                    std::memcpy(out + at, in + row * (*next - first) + column - first,
                                std::size_t(n));
                    at += n, column += n;
                    if (column == begin.back()) ++row, column = 0, next = begin.begin();
                    // Parts may be empty.
                    while (*next <= column) ++next;
                }
            });
        });
    }
};

const Register<Concat, Direct<Concat>> concat;
const Register<Stack, Direct<Stack>> stack;

}  // namespace
}  // namespace ai3
