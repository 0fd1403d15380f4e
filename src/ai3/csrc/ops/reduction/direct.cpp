// Where memory runs along a reduced dimension, element by element of the output, else a few vectors
// of neighbouring elements at a time.

#include <cmath>

#include "kernels/elementwise.hpp"
#include "kernels/softmax_row.hpp"
#include "kernels/sums.hpp"
#include "ops/reduction/op.hpp"

namespace ai3 {
namespace {

using Dimensions = std::vector<ReductionProblem::Dimension>;

// Of place i, counted along `dims` from number `first` on.
Index offset(const Dimensions& dims, std::size_t first, Index i) {
    Index at = 0;
    for (std::size_t d = first; d < dims.size(); ++d) {
        at += i % dims[d].extent * dims[d].stride;
        i /= dims[d].extent;
    }
    return at;
}

template <typename T, Reduction F>
class ReductionPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index vectors = 4;

  public:
    explicit ReductionPlan(const ReductionProblem& problem) : p(problem) {
        if (p.reduced.empty()) p.reduced.push_back({1, 1});
        along_kept = !p.kept.empty() && p.kept[0].stride == 1;
        factor = F == Reduction::mean ? Lane<T>(1 / double(p.n)) : Lane<T>(1);
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        if (p.n == 0) {
            std::fill_n(out, p.size, F == Reduction::mean ? T(NAN) : T(0));
            return;
        }
        if (!along_kept) {
            const Index grain = std::max<Index>(elementwise_grain / p.n, 1);
            parallel_ranges(p.threads, p.size, grain, [&](Index o, Index end) {
                for (; o < end; ++o) out[o] = reduce_rows(in + offset(p.kept, 0, o));
            });
            return;
        }
        const Index row = p.kept[0].extent, pieces = (row + vectors * W - 1) / (vectors * W);
        const Index grain = std::max<Index>(elementwise_grain / (p.n * vectors * W), 1);
        parallel_ranges(p.threads, p.size / row * pieces, grain, [&](Index i, Index end) {
            for (; i < end; ++i) {
                const Index column = i % pieces * vectors * W;
                const T* from = in + offset(p.kept, 1, i / pieces) + column;
                const Index columns = std::min(vectors * W, row - column);
                T* to = out + i / pieces * row + column;
                columns > W ? reduce_columns<vectors>(from, columns, to)
                            : reduce_columns<1>(from, columns, to);
            }
        });
    }

  private:
    static constexpr bool largest_one = F == Reduction::amax;

    // One element of the output.
    T reduce_rows(const T* in) const {
        const auto [row, stride] = p.reduced[0];
        double total = 0;
        for (Index i = 0; i < p.n / row; ++i) {
            const T* x = in + offset(p.reduced, 1, i);
            if constexpr (largest_one) {
                const double found = double(largest(x, row));
                total = i == 0 || !(found <= total) ? (total == total ? found : total) : total;
            } else {
                total += sum_of(x, row, [](Vec<T> v) { return v; });
            }
        }
        return T(Lane<T>(F == Reduction::mean ? total / double(p.n) : total));
    }

    // `columns` neighbouring elements of the output. Sums of some hundreds of terms are added up.
    template <Index V>
    void reduce_columns(const T* in, Index columns, T* out) const {
        constexpr Index block = 256;
        LaneMask<T> live[V];
        Vec<T> total[V];
        for (Index v = 0; v < V; ++v) {
            live[v] = LaneMask<T>::first(std::clamp<Index>(columns - v * W, 0, W));
            total[v] = largest_one ? live[v].load(in + v * W) : Vec<T>{};
        }
        const auto [inner, stride] = p.reduced[0];
        for (Index o = 0; o < p.n / inner; ++o) {
            const T* x = in + offset(p.reduced, 1, o);
            for (Index first = 0; first < inner; first += block) {
                const Index end = std::min(first + block, inner);
                Vec<T> part[V] = {};
                if (largest_one) std::copy(total, total + V, part);
                for (Index i = first; i < end; ++i)
#pragma GCC unroll 4
                    for (Index v = 0; v < V; ++v) {
                        const T* at = x + i * stride + v * W;
                        const Vec<T> value = columns == V * W ? load(at) : live[v].load(at);
                        part[v] = largest_one ? larger<T>(part[v], value) : part[v] + value;
                    }
                for (Index v = 0; v < V; ++v) total[v] = largest_one ? part[v] : total[v] + part[v];
            }
        }
        for (Index v = 0; v < V; ++v) live[v].store(out + v * W, total[v] * factor);
    }

    ReductionProblem p;
    bool along_kept;
    Lane<T> factor;
};

template <typename P>
class Direct;
template <Reduction F>
class Direct<ReductionOf<F>> final : public Algorithm<ReductionOf<F>> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const ReductionOf<F>& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<ReductionPlan<decltype(zero), F>>(p);
        });
    }
};

template <typename P>
using RegisterDirect = Register<P, Direct<P>>;
const ForEachReduction<RegisterDirect> registered;

}  // namespace
}  // namespace ai3
