// Slices copied one after the other; gather, element by element; scatter, the lines along the
// dimension each by itself, neighbouring ones together so that memory is read in its order.

#include <algorithm>
#include <cstring>

#include "core/shape.hpp"
#include "ops/index_select/op.hpp"

namespace ai3 {
namespace {

// Elements worth another thread.
constexpr Index grain = 1 << 14;

class SelectDirect final : public Algorithm<IndexSelect> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const IndexSelect& p, const WeightSet&) const override {
        return make_plan([p](const void* const* inputs, void* output, std::byte*) {
            const auto* in = static_cast<const std::byte*>(inputs[0]);
            auto* out = static_cast<std::byte*>(output);
            const std::size_t bytes = std::size_t(p.inner) * size_of(p.dtype);
            parallel_ranges(
                p.threads, p.outer * p.count, std::max<Index>(grain / p.inner, 1),
                [&](Index i, Index end) {
                    for (; i < end; ++i) {
                        const Index o = i / p.count;
                        const Index at = index_at(p.index_dtype, inputs[1], i % p.count, p.extent);
                        if (at >= 0)
                            std::memcpy(out + std::size_t(i) * bytes,
                                        in + std::size_t(o * p.extent + at) * bytes, bytes);
                        else
                            for (Index k = 0; k < p.inner; ++k)
                                put_element(p.dtype, in, -1, out, i * p.inner + k);
                    }
                });
        });
    }
};

class GatherDirect final : public Algorithm<Gather> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Gather& p, const WeightSet&) const override {
        return make_plan([p, strides = dense_strides(p.shape)](const void* const* inputs,
                                                               void* output, std::byte*) {
            const Index row = p.index_shape.back();
            const std::size_t last = p.index_shape.size() - 1;
            const Index rows = elements(p.index_shape) / row;
            parallel_ranges(
                p.threads, rows, std::max<Index>(grain / row, 1), [&](Index r, Index end) {
                    for (; r < end; ++r) {
                        Index rest = r, from = 0;
                        for (std::size_t d = last; d-- > 0; rest /= p.index_shape[d])
                            if (d != p.dim) from += rest % p.index_shape[d] * strides[d];
                        for (Index k = 0; k < row; ++k) {
                            const Index at =
                                index_at(p.index_dtype, inputs[1], r * row + k, p.shape[p.dim]);
                            const Index along = p.dim == last ? 0 : k;
                            put_element(p.dtype, inputs[0],
                                        at < 0 ? -1 : from + along + at * strides[p.dim], output,
                                        r * row + k);
                        }
                    }
                });
        });
    }
};

template <typename T>
class ScatterPlan final : public Plan {
    static constexpr Index together = 64;

  public:
    explicit ScatterPlan(const Scatter& problem)
        : p(problem),
          last(p.shape.size() - 1),
          strides(dense_strides(p.shape)),
          source_strides(dense_strides(p.source_shape)) {
        // Of the indices: elements of a line, and rows of neighbouring lines.
        length = p.index_shape[p.dim];
        row = p.dim == last ? 1 : p.index_shape[last];
        between = 1;
        for (std::size_t d = p.dim + 1; d < last; ++d) between *= p.index_shape[d];
        pieces = (row + together - 1) / together;
        units = pieces * between;
        for (std::size_t d = 0; d < p.dim; ++d) units *= p.index_shape[d];
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        parallel_ranges(p.threads, elements(p.shape), grain,
                        [&](Index i, Index end) { std::copy(in + i, in + end, out + i); });
        const Index work = std::max<Index>(length * std::min(row, together), 1);
        parallel_ranges(p.threads, units, std::max<Index>(grain / work, 1),
                        [&](Index u, Index end) {
                            for (; u < end; ++u)
                                lines(u, inputs[1], static_cast<const T*>(inputs[2]), out);
                        });
    }

  private:
    void lines(Index unit, const void* indices, const T* source, T* out) const {
        const Index first = unit % pieces * together, n = std::min(together, row - first);
        const Index line = unit / pieces;
        Index to = p.dim == last ? 0 : first, from = to, rest = line;
        for (std::size_t d = last + (p.dim == last); d-- > 0;) {
            if (d == p.dim) continue;
            to += rest % p.index_shape[d] * strides[d];
            from += rest % p.index_shape[d] * source_strides[d];
            rest /= p.index_shape[d];
        }
        bool lost[together] = {};
        for (Index i = 0; i < length; ++i) {
            const Index index =
                ((line / between * length + i) * between + line % between) * row + first;
            for (Index k = 0; k < n; ++k) {
                const Index at = index_at(p.index_dtype, indices, index + k, p.shape[p.dim]);
                if (at < 0) {
                    lost[k] = true;
                    continue;
                }
                T& there = out[to + k + at * strides[p.dim]];
                there = written(p.write, p.dtype == DType::boolean, there,
                                source[from + k + i * source_strides[p.dim]]);
            }
        }
        for (Index k = 0; k < n; ++k)
            for (Index i = 0; lost[k] && i < p.shape[p.dim]; ++i)
                put_element(p.dtype, nullptr, -1, out, to + k + i * strides[p.dim]);
    }

    Scatter p;
    std::size_t last;
    Shape strides, source_strides;
    Index length, row, between, pieces, units;
};

class ScatterDirect final : public Algorithm<Scatter> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Scatter& p, const WeightSet&) const override {
        return with_value(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<ScatterPlan<decltype(zero)>>(p);
        });
    }
};

const Register<IndexSelect, SelectDirect> select;
const Register<Gather, GatherDirect> gather;
const Register<Scatter, ScatterDirect> scatter;

}  // namespace
}  // namespace ai3
