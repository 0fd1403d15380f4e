// Each thread writes the same range of all elements or pixels. Of images in blocks, a vector of two
// inputs' channels is shuffled from the four vectors that may hold them.

#include "core/simd.hpp"
#include "ops/interleave/op.hpp"

namespace ai3 {
namespace {

template <typename T>
void copy_rows(const Interleave& p, const void* const* inputs, T* out) {
    constexpr Index grain_bytes = 1 << 16;
    const Index grain = std::max<Index>(grain_bytes / (p.inner * Index(sizeof(T))), 1);
    const Index rows = p.end - p.start;
    parallel_ranges(p.threads, p.outer * rows, grain, [&](Index i, Index end) {
        for (; i < end; ++i) {
            const Index c = p.start + i % rows;
            const T* from = static_cast<const T*>(inputs[c % p.inputs]) +
                            (i / rows * p.extent + c / p.inputs) * p.inner;
            std::copy(from, from + p.inner, out + i * p.inner);
        }
    });
}

// One block of channels of some pixels: lane l of a pixel is that of `from[l]`, null where the
// image has no more channels.
template <typename T>
void gather_lanes(const T* const* from, Index pixels, T* out) {
    constexpr Index W = lanes<T>;
    for (Index i = 0; i < pixels; ++i)
        for (Index l = 0; l < W; ++l) out[i * W + l] = from[l] ? from[l][i * W] : T(0);
}

// The same for two inputs: the lanes are in turns those of `a` and `b`, each half a vector of
// channels from its lane `first` on, which go on in the block after it.
template <typename T>
struct Pair {
    static constexpr Index W = lanes<T>;
    struct Half {
        const T *block, *next;
        Index first;
    } a, b;

    void copy(Index pixels, LaneMask<T> live, T* out) const {
        VecIndex<T> from_a, from_b;
        Lane<T> turns[W];
        for (Index l = 0; l < W; ++l) {
            from_a[l] = a.first + l / 2, from_b[l] = b.first + l / 2;
            turns[l] = Lane<T>(l % 2);
        }
        const Vec<T> odd = load(turns);
        for (Index i = 0; i < pixels * W; i += W) {
            const Vec<T> x = shuffle<T>(load(a.block + i), load(a.next + i), from_a);
            const Vec<T> y = shuffle<T>(load(b.block + i), load(b.next + i), from_b);
            store(out + i, live.select(odd != Lane<T>(0) ? y : x, Vec<T>{}));
        }
    }
};

// Some pixels of image `n` from its pixel `at` on, of all its blocks.
template <typename T>
void shuffle_pixels(const Interleave& p, const void* const* inputs, Index n, Index at, Index pixels,
                    T* out) {
    constexpr Index W = lanes<T>;
    const Index from_blocks = (p.extent + W - 1) / W, blocks = (p.end - p.start + W - 1) / W;
    const Index step = p.inner * W;
    // Where channel c of the whole is.
    const auto find = [&](Index c) {
        const Index channel = c / p.inputs;
        return static_cast<const T*>(inputs[c % p.inputs]) +
               (n * from_blocks + channel / W) * step + at * W + channel % W;
    };
    const auto half = [&](Index c) {
        const Index lane = c / 2 % W;
        const bool last = c / 2 / W + 1 == from_blocks;
        const T* block = find(c) - lane;
        return typename Pair<T>::Half{block, last ? block : block + step, lane};
    };
    for (Index block = 0; block < blocks; ++block) {
        const Index c = p.start + block * W, live = std::min(W, p.end - c);
        T* to = out + (n * blocks + block) * step + at * W;
        if (p.inputs == 2) {
            // A last channel may have no other after it.
            const Index other = std::min(c + 1, 2 * p.extent - 1);
            Pair<T>{half(c), half(other)}.copy(pixels, LaneMask<T>::first(live), to);
        } else {
            const T* from[W] = {};
            for (Index l = 0; l < live; ++l) from[l] = find(c + l);
            gather_lanes(from, pixels, to);
        }
    }
}

template <typename T>
void shuffle_blocks(const Interleave& p, const void* const* inputs, T* out) {
    constexpr Index grain_elements = 1 << 14;
    const Index grain = std::max<Index>(grain_elements / (p.end - p.start), 1);
    parallel_ranges(p.threads, p.outer * p.inner, grain, [&](Index i, Index end) {
        for (Index pixels; i < end; i += pixels) {
            const Index at = i % p.inner;
            pixels = std::min(end - i, p.inner - at);
            shuffle_pixels(p, inputs, i / p.inner, at, pixels, out);
        }
    });
}

class Direct final : public Algorithm<Interleave> {
  public:
    std::string_view name() const override { return "direct"; }

    std::unique_ptr<Plan> plan(const Interleave& p, const WeightSet&) const override {
        return with_real(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return make_plan([p](const void* const* inputs, void* output, std::byte*) {
                if (p.layout == Layout::dense)
                    copy_rows(p, inputs, static_cast<T*>(output));
                else
                    shuffle_blocks(p, inputs, static_cast<T*>(output));
            });
        });
    }
};

const Register<Interleave, Direct> registered;

}  // namespace
}  // namespace ai3
