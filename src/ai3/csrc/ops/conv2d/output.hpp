// From sums in memory, vectors of channels of one pixel after the other, to the output of a
// convolution in its layout, through the epilogue.
#pragma once

#include "core/simd.hpp"
#include "kernels/channel_tile.hpp"
#include "kernels/dot_pairs.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

// Whether input and output are more than the caches hold.
inline bool past_caches(const Conv2d& p) {
    return p.N * (p.IC * p.IH * p.IW + p.OC * p.OH * p.OW) * Index(size_of(p.dtype)) > cached_bytes;
}

// Vectors of the input that have to be waited for: a pointwise layer past the caches does little
// else.
inline double awaited_vectors(const Conv2d& p) {
    if (p.KH * p.KW > 1 || !past_caches(p)) return 0;
    return double(p.N * p.IC * p.IH * p.IW) / double(channel_block(p.dtype));
}

// Whether an output is written past the caches, which also needs NCHW planes that begin on a
// vector's boundary.
template <typename T>
bool streams(const Conv2d& p, const T* out) {
    return p.output_layout == Layout::dense && past_caches(p) && p.OH * p.OW % lanes<T> == 0 &&
           reinterpret_cast<std::uintptr_t>(out) % sizeof(Vec<T>) == 0;
}

// What a tile's multiply-add of a vector takes in the time of one of float or double: in bfloat16
// less by pairs and, by floats, more for the conversion of weights.
inline double step_cost(const Conv2d& p) {
    constexpr double converted = 1.25;
    return p.dtype != DType::bf16 ? 1 : multiplies_pairs() ? 1 / dot_pairs_rate() : converted;
}

template <typename T>
class Output {
    static constexpr Index W = lanes<T>;

  public:
    Output(const Conv2d& p, const void* const* inputs, T* out)
        : out_(out),
          layout_(p.output_layout),
          strides_(p.output_strides()),
          epilogue_(p.epilogue(inputs, out)),
          streamed_(streams(p, out)) {}

    // Writes `n` pixels of the channels [oc, end), from pixel number `pixel` of image `n`'s plane
    // on. `oc` is a multiple of a block in the blocked layout. `from` holds their sums as
    // (n, width), in vectors; those past `end` are not written, but fill up a last block.
    void write(const Lane<T>* from, Index width, Index image, Index oc, Index end, Index pixel,
               Index n) const {
        T* to = out_ + image * strides_.image + pixel * strides_.pixel;
        for (Index c = oc; c < end; c += W, from += W) {
            T* place = to + strides_.channel(c);
            const Index count = std::min(W, end - c);
            if (layout_ == Layout::dense)
                write_planes(from, width, count, place, n);
            else if (count == W || layout_ == Layout::blocked)
                write_vectors(from, width, place, n);
            else
                for (Index i = 0; i < n; ++i) {
                    T* at = place + i * strides_.pixel;
                    const auto live = LaneMask<T>::first(count);
                    live.store(at, epilogue_(load(from + i * width), at, live));
                }
        }
    }

    // Where whole vectors of the channels [oc, end) of a pixel are stored, or null where the layout
    // has no room for them: then they go through `write`.
    T* vectors(Index image, Index oc, Index end, Index pixel) const {
        if (layout_ == Layout::dense || (layout_ == Layout::channels_last && (end - oc) % W))
            return nullptr;
        return out_ + image * strides_.image + strides_.channel(oc) + pixel * strides_.pixel;
    }
    // How far apart those of two pixels lie, and those of neighbouring channels.
    Index pixel() const { return strides_.pixel; }
    Index vector() const { return strides_.channel(W) - strides_.channel(0); }
    const Epilogue<T>& epilogue() const { return epilogue_; }

    // After the last write of a thread.
    void finish() const {
        if (streamed_) stream_fence();
    }

  private:
    void write_vectors(const Lane<T>* from, Index width, T* to, Index n) const {
        if constexpr (std::is_same_v<T, Lane<T>>) {
            for (Index i = 0; i < n; ++i) store(to + i * strides_.pixel, load(from + i * width));
            apply_to_vectors(epilogue_, to, strides_.pixel, n);
        } else
            for (Index i = 0; i < n; ++i) {
                T* at = to + i * strides_.pixel;
                store(at, epilogue_(load(from + i * width), at));
            }
    }

    void write_planes(const Lane<T>* from, Index width, Index count, T* to, Index n) const {
        // The first vector ends on a boundary, so that the others are whole lines.
        Index done = 0;
        const Index ahead = Index(reinterpret_cast<std::uintptr_t>(to) / sizeof(T) % W);
        for (Index some; done < n; done += some) {
            some = std::min(done == 0 ? W - ahead : W, n - done);
            store_channels(from + done * width, width, some, count, to + done,
                           strides_.block_stride, epilogue_, streamed_ && (done || ahead == 0));
        }
    }

    T* out_;
    Layout layout_;
    ImageStrides strides_;
    Epilogue<T> epilogue_;
    bool streamed_;
};

}  // namespace ai3
