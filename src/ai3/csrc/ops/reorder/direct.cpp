// Squares of a vector of channels by as many pixels are transposed in registers where one of the
// layouts has planes; else vectors are copied.

#include "kernels/channel_tile.hpp"
#include "kernels/convert.hpp"
#include "kernels/copy.hpp"
#include "kernels/gather_channels.hpp"
#include "ops/reorder/op.hpp"

namespace ai3 {
namespace {

// Pixels that a thread moves at a time, of one vector of channels.
constexpr Index chunk = 1 << 10;

// `n` pixels of `channels` channels, at most a vector.
template <typename T, typename O>
void move_pixels(const Reorder& p, const T* in, O* out, Index n, Index channels) {
    constexpr Index W = lanes<T>;
    const ImageStrides from = p.input_strides(), to = p.output_strides();
    const auto live = LaneMask<T>::first(channels);
    const auto stored = LaneMask<O>::first(channels);
    alignas(cache_line) Lane<T> square[W * W];
    for (Index done = 0; done < n; done += W) {
        const Index some = std::min(W, n - done);
        const T* pixels = in + done * from.pixel;
        O* place = out + done * to.pixel;
        if (p.input_layout == Layout::dense)
            gather_channels(pixels, from.block_stride, some, channels, square, W);
        else
            for (Index i = 0; i < some; ++i)
                store(square + i * W, live.load(pixels + i * from.pixel));
        if (p.output_layout == Layout::dense)
            store_channels(square, W, some, channels, place, to.block_stride);
        else if (p.output_layout == Layout::blocked)
            for (Index i = 0; i < some; ++i) store(place + i * W, load(square + i * W));
        else
            for (Index i = 0; i < some; ++i)
                stored.store(place + i * to.pixel, load(square + i * W));
    }
}

// Calls `f` with a zero of float or bfloat16.
template <typename F>
auto with_narrow(DType dtype, F&& f) {
    return dtype == DType::bf16 ? f(bfloat16{}) : f(float{});
}

class Direct final : public Algorithm<Reorder> {
  public:
    std::string_view name() const override { return "direct"; }
    bool takes_bfloat16() const override { return true; }

    // Measured on Zen 4: some 6 cycles for a vector of channels, as long as there are of them.
    double cost(const Reorder& p) const override {
        const Index block = channel_block(p.dtype), blocks = (p.C + block - 1) / block;
        return 6.0 * double(p.N * p.H * p.W * blocks) / p.threads;
    }

    std::unique_ptr<Plan> plan(const Reorder& p, const WeightSet&) const override {
        if (p.dtype == DType::f64) return typed<double, double>(p);
        return with_narrow(p.dtype, [&](auto from) {
            return with_narrow(p.output_dtype,
                               [&](auto to) { return typed<decltype(from), decltype(to)>(p); });
        });
    }

  private:
    template <typename T, typename O>
    static std::unique_ptr<Plan> typed(const Reorder& p) {
        if (p.input_layout == p.output_layout) {
            if constexpr (std::is_same_v<T, O>)
                return copy_plan(Index(p.output().bytes()), p.threads);
            else
                return make_plan([p](const void* const* inputs, void* output, std::byte*) {
                    convert(static_cast<const T*>(inputs[0]), static_cast<O*>(output),
                            p.output().held(), p.threads);
                });
        }
        return make_plan([p](const void* const* inputs, void* output, std::byte*) {
            constexpr Index W = lanes<T>;
            const ImageStrides from = p.input_strides(), to = p.output_strides();
            const Index plane = p.H * p.W, chunks = (plane + chunk - 1) / chunk;
            const Index blocks = (p.C + W - 1) / W;
            const int threads = p.output().held() < 2 * W * chunk ? 1 : p.threads;
            parallel_for(threads, p.N * blocks * chunks, [&](Index i, int) {
                const Index pixel = i % chunks * chunk, c = i / chunks % blocks * W;
                const Index n = i / chunks / blocks;
                move_pixels(
                    p,
                    static_cast<const T*>(inputs[0]) + n * from.image + from.channel(c) +
                        pixel * from.pixel,
                    static_cast<O*>(output) + n * to.image + to.channel(c) + pixel * to.pixel,
                    std::min(chunk, plane - pixel), std::min(W, p.C - c));
            });
        });
    }
};

const Register<Reorder, Direct> registered;

}  // namespace
}  // namespace ai3
