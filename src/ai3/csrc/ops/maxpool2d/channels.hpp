// Reduction of the windows of images whose neighbours in memory are channels, blocks of them or
// all: vectors of channels are reduced, tap by tap, those of several neighbouring windows at a
// time.
#pragma once

#include "core/simd.hpp"
#include "ops/maxpool2d/axis.hpp"

namespace ai3 {

template <typename T, typename Rule>
class ChannelsPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index together = 4;

  public:
    ChannelsPlan(const Pooling2d& p, const Axes& axes, Rule r)
        : rule(std::move(r)), rows(axes.h.spans()), columns(axes.w.spans()), threads(p.threads) {
        const ImageStrides from(p.layout, p.dtype, p.C, p.IH, p.IW);
        channels = from.block;
        images = p.N * (from.image / from.block_stride);
        IW = p.IW, OW = p.OW, step_h = axes.h.step, step_w = axes.w.step;
        in_image = from.block_stride;
    }

    void run(const void* const* inputs, void* output, std::byte*) const override {
        const T* in = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Index OH = Index(rows.size());
        const Index work = in_image / std::max<Index>(OH, 1);
        parallel_ranges(threads, images * OH, std::max<Index>((1 << 14) / work, 1),
                        [&](Index i, Index end) {
                            for (; i < end; ++i)
                                row(in + i / OH * in_image, i % OH, out + i * OW * channels);
                        });
    }

  private:
    void row(const T* image, Index oh, T* out) const {
        const Span h = rows[std::size_t(oh)];
        const T* first = image + h.begin * IW * channels;
        for (Index ow = 0; ow < OW;) {
            const Span* w = &columns[std::size_t(ow)];
            Index same = 1;
            while (same < together && ow + same < OW && w[same].count == w->count) ++same;
            const bool all = same == together;
            for (Index c = 0; c < channels; c += W) {
                const auto live = LaneMask<T>::first(std::min(W, channels - c));
                if (all)
                    windows<together>(first + c, h.count, w, oh, ow, live, out + c);
                else
                    windows<1>(first + c, h.count, w, oh, ow, live, out + c);
            }
            ow += all ? together : 1;
        }
    }

    // The outputs of `count` neighbouring windows, which have as many columns each. A single one
    // adds up several columns at a time.
    template <Index count>
    void windows(const T* first, Index taps, const Span* w, Index oh, Index ow, LaneMask<T> live,
                 T* out) const {
        Vec<T> sums[together];
        std::fill(sums, sums + together, Rule::neutral());
        const auto at = [&](const T* p) { return channels % W ? live.load(p) : load(p); };
        for (Index kh = 0; kh < taps; ++kh) {
            const T* line = first + kh * step_h * IW * channels;
            if constexpr (count == 1) {
                const T* p = line + w->begin * channels;
                Index kw = 0;
                for (; kw + together <= w->count; kw += together)
#pragma GCC unroll 4
                    for (Index i = 0; i < together; ++i, p += step_w * channels)
                        sums[i] = Rule::combine(sums[i], at(p));
                for (; kw < w->count; ++kw, p += step_w * channels)
                    sums[0] = Rule::combine(sums[0], at(p));
            } else {
                for (Index kw = 0; kw < w->count; ++kw)
#pragma GCC unroll 4
                    for (Index i = 0; i < together; ++i)
                        sums[i] = Rule::combine(sums[i],
                                                at(line + (w[i].begin + kw * step_w) * channels));
            }
        }
        if constexpr (count == 1)
            for (Index i = 1; i < together; ++i) sums[0] = Rule::combine(sums[0], sums[i]);
        for (Index i = 0; i < count; ++i)
            live.store(out + (ow + i) * channels, rule.finish_channels(sums[i], oh, ow + i));
    }

    Rule rule;
    std::vector<Span> rows, columns;
    int threads;
    Index images, channels, IW, OW, step_h, step_w, in_image;
};

}  // namespace ai3
