// One multiply-add for each element, with the scale and shift of each channel computed at planning.
// Right in place too.

#include "kernels/elementwise.hpp"
#include "ops/batchnorm2d/op.hpp"

namespace ai3 {
namespace {

template <typename T>
class BatchNorm2dPlan final : public Plan {
  public:
    BatchNorm2dPlan(const BatchNorm2d& problem, const WeightSet& weights) : p(problem) {
        for (Index c = 0; c < p.C; ++c) {
            const auto [scale, shift] = p.affine(weights, c);
            scales.push_back(Lane<T>(scale));
            shifts.push_back(Lane<T>(shift));
        }
        // What fills up a last block of channels becomes zero.
        scales.resize(scales.size() + lanes<T>);
        shifts.resize(scales.size());
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        // Where a plane is one element, channels lie side by side.
        const Layout layout =
            p.plane == 1 && p.layout == Layout::dense ? Layout::channels_last : p.layout;
        if (layout != Layout::dense) {
            run_channels(layout, in, out);
            return;
        }
        const Index size = p.N * p.C * p.plane;
        const bool past_cache = written_past_cache(size, p.plane, in, out);
        parallel_ranges(p.threads, size, elementwise_grain, [&](Index i, Index end) {
            while (i < end) {
                const Index plane = i / p.plane, stop = std::min((plane + 1) * p.plane, end);
                const Vec<T> scale = broadcast(scales[std::size_t(plane % p.C)]);
                const Vec<T> shift = broadcast(shifts[std::size_t(plane % p.C)]);
                compute_elements(out, i, stop, past_cache,
                                 [&](auto at) { return at(in) * scale + shift; });
                i = stop;
            }
        });
    }

  private:
    // Of images whose neighbours in memory are channels, blocks of them or all.
    void run_channels(Layout layout, const T* in, T* out) const {
        constexpr Index W = lanes<T>;
        const ImageStrides strides(layout, p.dtype, p.C, 1, p.plane);
        const Index block = strides.block, blocks = strides.image / strides.block_stride;
        const Index rows = blocks == 1 ? p.N * p.plane : p.plane;  // of the same channels
        const Index grain = std::max<Index>(elementwise_grain / block, 1);
        parallel_ranges(p.threads, p.N * blocks * p.plane, grain, [&](Index i, Index end) {
            while (i < end) {
                const Index first = i / rows % blocks * block;
                const Index stop = std::min((i / rows + 1) * rows, end);
                for (Index c = 0; c < block; c += W) {
                    const auto live = LaneMask<T>::first(std::min(W, block - c));
                    const Vec<T> scale = load(&scales[std::size_t(first + c)]);
                    const Vec<T> shift = load(&shifts[std::size_t(first + c)]);
                    for (Index at = i * block + c; at < stop * block; at += block)
                        live.store(out + at, live.load(in + at) * scale + shift);
                }
                i = stop;
            }
        });
    }

    BatchNorm2d p;
    std::vector<Lane<T>> scales, shifts;
};

template <typename P>
class Direct final : public Algorithm<P> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    std::unique_ptr<Plan> plan(const P& p, const WeightSet& weights) const override {
        return with_real(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<BatchNorm2dPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<BatchNorm2d, Direct<BatchNorm2d>> images;
const Register<BatchNorm, Direct<BatchNorm>> any;

}  // namespace
}  // namespace ai3
