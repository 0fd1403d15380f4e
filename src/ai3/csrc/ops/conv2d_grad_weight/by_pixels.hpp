// Direct correlation with vectors along the pixels of a row, for layers whose output channels do
// not fill vectors: depthwise ones and narrow groups. A tile of C output channels x X elements of
// the kernel keeps a vector of sums each; the lanes are added up at the end of a row's block.
//
// Of a stride above 1 the rows are split into as many phases,
//   copy[c][h][phase][i] = padded[c][h][i * stride_w + phase],
// so that under every element of the kernel the pixels of an output row lie side by side.
#pragma once

#include "core/simd.hpp"
#include "ops/conv2d/padding.hpp"
#include "ops/conv2d_grad_weight/op.hpp"

namespace ai3 {

template <typename T>
class GradWeightByPixels final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr int max_channels = 4;
    static constexpr int max_elements(int channels) {
        return std::min(accumulators / channels, accumulators >= 24 ? 14 : 9);
    }

  public:
    explicit GradWeightByPixels(const Conv2d& problem) : p(problem), image(p) {
        for (Index ic = 0; ic < p.group_ic(); ++ic)
            for (Index kh = 0; kh < p.KH; ++kh)
                for (Index kw = 0; kw < p.KW; ++kw)
                    elements_.push_back(ic * image.plane() + kh * p.dilation_h * image.row +
                                        image.column(kw * p.dilation_w));
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        return std::size_t(p.threads) * thread_bytes(p);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const T* grad = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        const Index K = Index(elements_.size()), channels = p.group_ic();
        const Index tiles = (p.group_oc() + max_channels - 1) / max_channels;
        parallel_for(p.threads, p.groups * tiles, [&](Index i, int thread) {
            const Index group = i / tiles, first = i % tiles * max_channels;
            const Index count = std::min<Index>(max_channels, p.group_oc() - first);
            const Index oc = group * p.group_oc() + first;
            auto* sums =
                reinterpret_cast<double*>(workspace + std::size_t(thread) * thread_bytes(p));
            T* copy = reinterpret_cast<T*>(reinterpret_cast<std::byte*>(sums) + sums_bytes(p));
            std::fill(sums, sums + count * K, 0.0);
            for (Index n = 0; n < p.N; ++n) {
                const T* in = input + (n * p.IC + group * channels) * p.IH * p.IW;
                if (image.copied) {
                    for (Index c = 0; c < channels; ++c)
                        fill(in + c * p.IH * p.IW, copy + c * image.plane(),
                             copy + channels * image.plane());
                    in = copy;
                }
                add_image(in, grad + (n * p.OC + oc) * p.OH * p.OW, count, sums);
            }
            for (Index k = 0; k < count * K; ++k) out[oc * K + k] = T(sums[k]);
        });
    }

  private:
    static std::size_t sums_bytes(const Conv2d& p) {
        return align_up(std::size_t(max_channels * p.group_ic() * p.KH * p.KW) * sizeof(double));
    }
    static std::size_t thread_bytes(const Conv2d& p) {
        const Image image(p);
        const Index elements = image.copied ? p.group_ic() * image.plane() + image.width : 0;
        return sums_bytes(p) + align_up(std::size_t(elements) * sizeof(T));
    }

    // Geometry of the image that is read: the input itself, or a copy.
    struct Image : PaddedImage {
        Index stride, pitch, row;

        explicit Image(const Conv2d& p) : PaddedImage(p), stride(p.stride_w) {
            if (stride > 1) copied = true;
            pitch = (width + stride - 1) / stride;
            row = stride > 1 ? stride * pitch : width;
        }
        Index plane() const { return height * row; }
        Index column(Index w) const { return w % stride * pitch + w / stride; }
    };

    // Copies one channel. A padded row is put behind the last plane on its way.
    void fill(const T* from, T* to, T* line) const {
        if (image.stride == 1) {
            pad_plane(p, image, from, to);
            return;
        }
        for (Index h = 0; h < image.height; ++h, to += image.row) {
            const Index ih = padded_source(h - p.pad_top, p.IH, p.padding_mode);
            if (ih < 0) {
                std::fill(to, to + image.row, T(0));
                continue;
            }
            copy_row(p, from + ih * p.IW, -p.pad_left, image.width, line);
            for (Index phase = 0; phase < image.stride; ++phase) {
                T* part = to + phase * image.pitch;
                const Index count = (image.width - phase + image.stride - 1) / image.stride;
                if (image.stride == 2)
                    for (Index i = 0; i < count; ++i) part[i] = line[2 * i + phase];
                else
                    for (Index i = 0; i < count; ++i) part[i] = line[i * image.stride + phase];
            }
        }
    }

    // Adds one image's products of some output channels to sums (channel, element).
    void add_image(const T* in, const T* grad, Index channels, double* sums) const {
        const Index K = Index(elements_.size());
        for (Index oc = 0; oc < channels;) {
            const Index left = channels - oc;
            const int C = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            const int most = max_elements(C);
            const Index tiles = (K + most - 1) / most;
            for (Index tile = 0; tile < tiles; ++tile) {
                const Index begin = K * tile / tiles, end = K * (tile + 1) / tiles;
                const T* g = grad + oc * p.OH * p.OW;
                double* to = sums + oc * K + begin;
                if (C == 4)
                    add_tile<4>(in, g, begin, int(end - begin), to);
                else if (C == 2)
                    add_tile<2>(in, g, begin, int(end - begin), to);
                else
                    add_tile<1>(in, g, begin, int(end - begin), to);
            }
            oc += C;
        }
    }

    template <int C>
    void add_tile(const T* in, const T* grad, Index first, int count, double* sums) const {
        run_of<C>(count, std::make_integer_sequence<int, max_elements(C)>{}, in, grad, first, sums);
    }
    template <int C, int... I>
    void run_of(int count, std::integer_sequence<int, I...>, const T* in, const T* grad,
                Index first, double* sums) const {
        (void)((count == I + 1 && (run_rows<C, I + 1>(in, grad, first, sums), true)) || ...);
    }
    template <int C, int X>
    void run_rows(const T* in, const T* grad, Index first, double* sums) const {
        const Index K = Index(elements_.size()), plane = p.OH * p.OW;
        const T* from[X];
        for (int x = 0; x < X; ++x) from[x] = in + elements_[std::size_t(first + x)];
        // Rows of which a vector's lane adds up no more than some hundred numbers.
        const Index step = std::max<Index>(1, 256 * W / p.OW);
        for (Index begin = 0; begin < p.OH; begin += step) {
            Vec<T> acc[C][X] = {};
            for (Index row = begin; row < std::min(begin + step, p.OH); ++row) {
                const Index offset = row * p.stride_h * image.row;
                const T* g = grad + row * p.OW;
                const auto add = [&](Index w, auto load_from) {
                    Vec<T> value[C];
#pragma GCC unroll 4
                    for (int c = 0; c < C; ++c) value[c] = load_from(g + c * plane + w);
#pragma GCC unroll 14
                    for (int x = 0; x < X; ++x) {
                        const Vec<T> pixel = load_from(from[x] + offset + w);
#pragma GCC unroll 4
                        for (int c = 0; c < C; ++c) acc[c][x] += value[c] * pixel;
                    }
                };
                Index w = 0;
                for (; w + W <= p.OW; w += W) add(w, [](const T* at) { return load(at); });
                const auto rest = LaneMask<T>::first(p.OW - w);
                if (w < p.OW) add(w, [&](const T* at) { return rest.load(at); });
            }
            for (int c = 0; c < C; ++c)
                for (int x = 0; x < X; ++x) sums[c * K + x] += double(sum<T>(acc[c][x]));
        }
    }

    Conv2d p;
    Image image;
    std::vector<Index> elements_;
};

}  // namespace ai3
