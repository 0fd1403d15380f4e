// Rows of the output in which each input either runs along or stays. Dimensions over which both
// inputs run on without a jump are one, so that equal shapes are a single row. Right in place on
// the first input.

#include "ops/add/op.hpp"
#include "ops/relu/elementwise.hpp"

namespace ai3 {
namespace {

struct Dimension {
    Index extent, a, b;
};

// From the innermost out.
std::vector<Dimension> merged(const Add& p) {
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
    return dims;
}

template <typename T, bool a_runs, bool b_runs>
void add_row(const T* a, const T* b, T alpha, T* out, Index n, bool past_cache) {
    const Vec<T> factor = broadcast(alpha);
    compute_elements(out, 0, n, past_cache, [&](auto at) {
        const Vec<T> x = a_runs ? at(a) : broadcast(*a), y = b_runs ? at(b) : broadcast(*b);
        return x + factor * y;
    });
}

template <typename T>
class AddPlan final : public Plan {
  public:
    explicit AddPlan(const Add& p)
        : dims(merged(p)), size(p.size), alpha(T(p.alpha)), threads(p.threads) {
        row = !dims[0].a  ? add_row<T, false, true>
              : dims[0].b ? add_row<T, true, true>
                          : add_row<T, true, false>;
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* a = static_cast<const T*>(inputs[0]);
        const T* b = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        const bool past_cache = written_past_cache(size, dims[0].extent, a, out);
        parallel_ranges(threads, size, elementwise_grain, [&](Index begin, Index end) {
            for (Index i = begin; i < end;) {
                const Index inner = i % dims[0].extent;
                Index at_a = inner * dims[0].a, at_b = inner * dims[0].b;
                Index rest = i / dims[0].extent;
                for (std::size_t d = 1; d < dims.size(); ++d) {
                    at_a += rest % dims[d].extent * dims[d].a;
                    at_b += rest % dims[d].extent * dims[d].b;
                    rest /= dims[d].extent;
                }
                const Index n = std::min(dims[0].extent - inner, end - i);
                row(a + at_a, b + at_b, alpha, out + i, n, past_cache);
                i += n;
            }
        });
    }

  private:
    std::vector<Dimension> dims;
    Index size;
    T alpha;
    int threads;
    void (*row)(const T*, const T*, T, T*, Index, bool);
};

class Direct final : public Algorithm<Add> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Add& p, const WeightSet&) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<AddPlan<decltype(zero)>>(p);
        });
    }
};

const Register<Add, Direct> registered;

}  // namespace
}  // namespace ai3
