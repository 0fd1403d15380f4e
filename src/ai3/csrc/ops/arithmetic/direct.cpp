// Planes of the output, rows of rows, in which each input either runs along or stays. Dimensions
// over which both inputs run on without a jump are one, so that equal shapes are a single row.
// Right in place on the first input.

#include "kernels/elementwise.hpp"
#include "ops/arithmetic/op.hpp"

namespace ai3 {
namespace {

struct Dimension {
    Index extent, a, b;
};

// From the innermost out, at least two.
std::vector<Dimension> merged(const ArithmeticProblem& p) {
    std::vector<Dimension> dims;
    for (std::size_t i = p.shape.size(); i-- > 0;) {
        if (p.shape[i] == 1) continue;
        const Dimension dim{p.shape[i], p.a_strides[i], p.b_strides[i]};
        if (!dims.empty() && dim.a == dims.back().a * dims.back().extent &&
            dim.b == dims.back().b * dims.back().extent)
            dims.back().extent *= dim.extent;
        else
            dims.push_back(dim);
    }
    if (dims.empty()) dims.push_back({1, 1, 1});
    if (dims.size() == 1) dims.push_back({1, 0, 0});
    return dims;
}

template <typename T, Arithmetic F>
Vec<T> compute(Vec<T> x, Vec<T> y, Vec<T> alpha) {
    if constexpr (F == Arithmetic::mul) return x * y;
    if constexpr (F == Arithmetic::div) return x / y;
    return x + alpha * y;
}

// `rows` rows of `n` elements, the steps being from row to row.
template <typename T>
struct Rows {
    const T *a, *b;
    T* out;
    Index rows, n, a_step, b_step;
    Lane<T> alpha;
    bool past_cache;
};

template <typename T, Arithmetic F, bool a_runs, bool b_runs>
void compute_rows(Rows<T> r) {
    const Vec<T> alpha = broadcast(r.alpha);
    constexpr Index W = lanes<T>;
    if (r.n == W && a_runs && b_runs) {
        for (Index i = 0; i < r.rows; ++i, r.a += r.a_step, r.b += r.b_step, r.out += W)
            store(r.out, compute<T, F>(load(r.a), load(r.b), alpha));
        return;
    }
    for (Index i = 0; i < r.rows; ++i, r.a += r.a_step, r.b += r.b_step, r.out += r.n) {
        const Vec<T> x = broadcast(Lane<T>(*r.a)), y = broadcast(Lane<T>(*r.b));
        compute_elements(r.out, 0, r.n, r.past_cache, [&](auto at) {
            return compute<T, F>(a_runs ? at(r.a) : x, b_runs ? at(r.b) : y, alpha);
        });
    }
}

template <typename T, Arithmetic F>
class ArithmeticPlan final : public Plan {
  public:
    explicit ArithmeticPlan(const ArithmeticProblem& p)
        : dims(merged(p)), size(p.size), alpha(Lane<T>(p.alpha)), threads(p.threads) {
        compute = !dims[0].a  ? compute_rows<T, F, false, true>
                  : dims[0].b ? compute_rows<T, F, true, true>
                              : compute_rows<T, F, true, false>;
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* a = static_cast<const T*>(inputs[0]);
        const T* b = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        const Index n = dims[0].extent, rows = dims[1].extent;
        const bool past_cache = written_past_cache(size, n, a, out);
        // A range begins and ends anywhere; within it come parts of a row, then whole rows.
        parallel_ranges(threads, size, elementwise_grain, [&](Index begin, Index end) {
            for (Index i = begin; i < end;) {
                const Index inner = i % n, row = i / n % rows;
                Index rest = i / n / rows;
                Index at_a = inner * dims[0].a + row * dims[1].a;
                Index at_b = inner * dims[0].b + row * dims[1].b;
                for (std::size_t d = 2; d < dims.size(); ++d) {
                    at_a += rest % dims[d].extent * dims[d].a;
                    at_b += rest % dims[d].extent * dims[d].b;
                    rest /= dims[d].extent;
                }
                const Index count = inner > 0 || end - i < n
                                        ? std::min(n - inner, end - i)
                                        : std::min(rows - row, (end - i) / n) * n;
                compute({a + at_a, b + at_b, out + i, std::max<Index>(count / n, 1),
                         std::min(count, n), dims[1].a, dims[1].b, alpha, past_cache});
                i += count;
            }
        });
    }

  private:
    std::vector<Dimension> dims;
    Index size;
    Lane<T> alpha;
    int threads;
    void (*compute)(Rows<T>);
};

template <typename P>
class Direct;
template <Arithmetic F>
class Direct<ArithmeticOf<F>> final : public Algorithm<ArithmeticOf<F>> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const ArithmeticOf<F>& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<ArithmeticPlan<decltype(zero), F>>(p);
        });
    }
};

template <typename P>
using RegisterDirect = Register<P, Direct<P>>;
const ForEachArithmetic<RegisterDirect> registered;

}  // namespace
}  // namespace ai3
