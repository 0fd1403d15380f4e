// Sums, products and extremes go along all lines of a slice at a time, so that memory is read in
// its order; what is sorted is one line of pairs of a value and its place at a time.

#include <algorithm>

#include "ops/along/op.hpp"

namespace ai3 {
namespace {

// Elements worth another thread.
constexpr Index grain = 1 << 14;
// Neighbouring lines whose running results are kept side by side.
constexpr Index together = 64;

template <typename T>
struct Entry {
    T value;
    Index place;
};

template <typename T, Line F>
class LinePlan final : public Plan {
    using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::int64_t>;
    static constexpr bool orders = F == Line::sort || F == Line::argsort;
    static constexpr bool gives_one = F <= Line::prod;
    // Of the output.
    using R = std::conditional_t<F == Line::argmax || F == Line::argmin || F == Line::argsort ||
                                     (F != Line::sort && !std::is_floating_point_v<T>),
                                 std::int64_t, T>;

  public:
    explicit LinePlan(const LineProblem& problem) : p(problem) {}

    static std::size_t workspace(const LineProblem& p) {
        return orders ? std::size_t(p.extent) * sizeof(Entry<T>) * std::size_t(p.threads) : 0;
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        R* out = static_cast<R*>(output);
        if constexpr (orders) {
            const int threads =
                threads_worth(double(p.outer * p.inner * p.extent), double(grain), p.threads);
            parallel_for(threads, p.outer * p.inner, [&](Index line, int thread) {
                auto* entries = reinterpret_cast<Entry<T>*>(workspace) + p.extent * thread;
                const Index first = line / p.inner * p.extent * p.inner + line % p.inner;
                order(in + first, out + first, entries);
            });
        } else {
            const Index pieces = (p.inner + together - 1) / together;
            const Index least = std::max<Index>(
                grain / std::max<Index>(p.extent * std::min(p.inner, together), 1), 1);
            parallel_ranges(p.threads, p.outer * pieces, least, [&](Index i, Index end) {
                for (; i < end; ++i) {
                    const Index column = i % pieces * together;
                    go_along(in + i / pieces * p.extent * p.inner + column,
                             out + i / pieces * (gives_one ? 1 : p.extent) * p.inner + column,
                             std::min(together, p.inner - column));
                }
            });
        }
    }

  private:
    void order(const T* in, R* out, Entry<T>* entries) const {
        for (Index i = 0; i < p.extent; ++i) entries[i] = {in[i * p.inner], i};
        std::sort(entries, entries + p.extent, [&](const Entry<T>& a, const Entry<T>& b) {
            const bool ahead = p.descending ? before(b.value, a.value) : before(a.value, b.value);
            const bool behind = p.descending ? before(a.value, b.value) : before(b.value, a.value);
            return ahead || (!behind && a.place < b.place);
        });
        for (Index i = 0; i < p.extent; ++i)
            if constexpr (F == Line::sort)
                out[i * p.inner] = entries[i].value;
            else
                out[i * p.inner] = entries[i].place;
    }

    // `n` neighbouring lines.
    void go_along(const T* in, R* out, Index n) const {
        if constexpr (F == Line::argmax || F == Line::argmin) {
            T best[together];
            Index place[together] = {};
            std::copy(in, in + n, best);
            for (Index i = 1; i < p.extent; ++i)
                for (Index k = 0; k < n; ++k) {
                    const T value = in[i * p.inner + k];
                    const bool better = F == Line::argmax ? before(best[k], value)
                                                          : value < best[k] || (value != value &&
                                                                                best[k] == best[k]);
                    const bool kept = F == Line::argmin && best[k] != best[k];
                    if (better && !kept) best[k] = value, place[k] = i;
                }
            std::copy(place, place + n, out);
        } else {
            Sum total[together];
            std::fill(total, total + n, Sum(F != Line::cumsum));
            for (Index i = 0; i < p.extent; ++i)
                for (Index k = 0; k < n; ++k) {
                    const Sum value = Sum(in[i * p.inner + k]);
                    total[k] = F == Line::cumsum ? total[k] + value : total[k] * value;
                    if constexpr (!gives_one) out[i * p.inner + k] = R(total[k]);
                }
            if constexpr (gives_one)
                for (Index k = 0; k < n; ++k) out[k] = R(total[k]);
        }
    }

    LineProblem p;
};

template <typename P>
class Direct;
template <Line F>
class Direct<LineOf<F>> final : public Algorithm<LineOf<F>> {
  public:
    std::string_view name() const override { return "direct"; }

    std::size_t workspace_bytes(const LineOf<F>& p) const override {
        return with_value(p.dtype,
                          [&](auto zero) { return LinePlan<decltype(zero), F>::workspace(p); });
    }
    std::unique_ptr<Plan> plan(const LineOf<F>& p, const WeightSet&) const override {
        return with_value(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<LinePlan<decltype(zero), F>>(p);
        });
    }
};

template <typename P>
using RegisterDirect = Register<P, Direct<P>>;
const ForEachLine<RegisterDirect> registered;

}  // namespace
}  // namespace ai3
