// Slices copied one after the other; gather, element by element.

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

const Register<IndexSelect, SelectDirect> select;
const Register<Gather, GatherDirect> gather;

}  // namespace
}  // namespace ai3
