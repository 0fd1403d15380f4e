// Convolution as a matrix product: output (OC, OH OW) = weight (OC, K) * columns (K, OH OW), where
// row k = (ic, kh, kw) of `columns` is the input as element (kh, kw) of the kernel sees it. The
// algorithms differ in where the columns come from.
#pragma once

#include "kernels/pixel_panel.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

// `Columns` gives the matrix:
//   explicit Columns(const Conv2d&)
//   std::size_t bytes() const             memory that the threads share
//   void prepare(const T* image, T* shared) const         before each image, all threads idle
//   void pack(const T* image, const T* shared, Index group, Index k, Index count, Index pixel,
//             Index pixels, T* panels) const
// `pack` writes rows [k, k + count) and pixels [pixel, pixel + pixels) as panels (count,
// panel_width) one after the other; what lies beyond the last pixel is finite or not used.
template <typename T, typename Columns>
class GemmPlan final : public Plan {
    static constexpr Index C = panel_rows;
    static constexpr Index width = panel_width<T>;

    // A block of columns stays in the second-level cache while all weights pass by it.
    struct Blocks {
        Index K, k_blocks, depth, row_tiles, pixels, pixel_blocks, row_parts;

        explicit Blocks(const Conv2d& p)
            : K(p.group_ic() * p.KH * p.KW), row_tiles((p.group_oc() + C - 1) / C) {
            constexpr Index deepest = 1024 / sizeof(T), bytes = Index{384} << 10;
            k_blocks = (K + deepest - 1) / deepest;
            depth = (K + k_blocks - 1) / k_blocks;
            const Index P = p.OH * p.OW, panels = (P + width - 1) / width;
            Index most = std::max<Index>(1, bytes / (depth * width * Index(sizeof(T))));
            // Enough blocks for the threads, by pixels if there are that many, else by channels
            // too.
            const Index images = p.N * p.groups, wanted = p.threads == 1 ? 1 : 2 * p.threads;
            most = std::clamp<Index>(images * panels / wanted, 1, most);
            pixel_blocks = (panels + most - 1) / most;
            pixels = (panels + pixel_blocks - 1) / pixel_blocks * width;
            row_parts = std::clamp<Index>(wanted / (images * pixel_blocks), 1, row_tiles);
        }

        std::size_t block_bytes() const {
            return align_up(std::size_t(depth * pixels) * sizeof(T));
        }
    };

  public:
    GemmPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), columns(p), blocks(p), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        return align_up(Columns(p).bytes()) + Blocks(p).block_bytes() * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        T* shared = reinterpret_cast<T*>(workspace);
        std::byte* own = workspace + align_up(columns.bytes());
        const bool by_image = columns.bytes() > 0;
        const Index tasks = p.groups * blocks.pixel_blocks * blocks.row_parts;
        const auto work = [&](Index n, Index i, int thread) {
            const Index part = i % blocks.row_parts, rest = i / blocks.row_parts;
            multiply(input + n * p.IC * p.IH * p.IW, shared, rest / blocks.pixel_blocks,
                     rest % blocks.pixel_blocks, part,
                     reinterpret_cast<T*>(own + std::size_t(thread) * blocks.block_bytes()),
                     out + n * p.OC * p.OH * p.OW);
        };
        if (!by_image) {
            parallel_for(p.threads, p.N * tasks,
                         [&](Index i, int thread) { work(i / tasks, i % tasks, thread); });
        } else {
            for (Index n = 0; n < p.N; ++n) {
                columns.prepare(input + n * p.IC * p.IH * p.IW, shared);
                parallel_for(p.threads, tasks, [&](Index i, int thread) { work(n, i, thread); });
            }
        }
        apply(p.epilogue(inputs, out), out, p.output().held(), p.threads);
    }

  private:
    void multiply(const T* image, const T* shared, Index group, Index block, Index part, T* panels,
                  T* out) const {
        const Index P = p.OH * p.OW, first = block * blocks.pixels;
        const Index pixels = std::min(blocks.pixels, P - first);
        if (pixels <= 0) return;
        const Index begin = blocks.row_tiles * part / blocks.row_parts;
        const Index end = blocks.row_tiles * (part + 1) / blocks.row_parts;
        const Index padded = blocks.row_tiles * C;
        const T* bias = packed->template as<T>() + group * padded;
        const T* weights = packed->template as<T>() + p.groups * padded + group * padded * blocks.K;
        out += group * p.group_oc() * P + first;
        for (Index k = 0; k < blocks.K; k += blocks.depth) {
            const Index depth = std::min(blocks.depth, blocks.K - k);
            columns.pack(image, shared, group, k, depth, first, pixels, panels);
            const T* a = weights + padded * k;
            for (Index tile = begin; tile < end; ++tile)
                for (Index pixel = 0; pixel < pixels; pixel += width)
                    multiply_panel(depth, a + tile * C * depth, panels + pixel * depth,
                                   k == 0 ? bias + tile * C : nullptr, out + tile * C * P + pixel,
                                   P, std::min(C, p.group_oc() - tile * C),
                                   std::min(width, pixels - pixel));
        }
    }

    // Bias, then for each group and block of K weights as (tile of OC, k, C), absent ones zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index K = blocks.K, padded = blocks.row_tiles * C;
        const std::size_t bytes = std::size_t(p.groups * padded * (K + 1)) * sizeof(T);
        return weights.packed("gemm", bytes, [&](Buffer& buffer) {
            T* bias = buffer.as<T>();
            T* to = bias + p.groups * padded;
            const T* from_bias = weights.data<T>(1);
            const T* from = weights.data<T>(0);
            parallel_for(p.threads, p.groups * blocks.row_tiles, [&](Index i, int) {
                const Index group = i / blocks.row_tiles, tile = i % blocks.row_tiles;
                for (Index c = 0; c < C; ++c) {
                    const Index row = tile * C + c, oc = group * p.group_oc() + row;
                    const bool real = row < p.group_oc();
                    bias[group * padded + row] = real && from_bias ? from_bias[oc] : T(0);
                    for (Index k = 0; k < K; ++k) {
                        const Index start = k / blocks.depth * blocks.depth;
                        const Index depth = std::min(blocks.depth, K - start);
                        to[group * padded * K + padded * start + tile * C * depth +
                           (k - start) * C + c] = real ? from[oc * K + k] : T(0);
                    }
                }
            });
        });
    }

    Conv2d p;
    Columns columns;
    Blocks blocks;
    std::shared_ptr<const Buffer> packed;
};

// Writes `count` pixels of row (channel plane `from`, element kh, kw) of the columns, from output
// pixel `pixel` on, to `to`.
template <typename T>
void copy_columns(const Conv2d& p, const T* from, Index kh, Index kw, Index pixel, Index count,
                  T* to) {
    const Index h = kh * p.dilation_h - p.pad_top, w = kw * p.dilation_w - p.pad_left;
    Index oh = pixel / p.OW, ow = pixel % p.OW;
    for (Index done = 0; done < count; ++oh, ow = 0) {
        const Index n = std::min(p.OW - ow, count - done);
        const Index ih = padded_source(oh * p.stride_h + h, p.IH, p.padding_mode);
        if (ih < 0) {
            std::fill(to + done, to + done + n, T(0));
        } else {
            const T* row = from + ih * p.IW;
            // Outputs [begin, end) of these n see the image itself.
            const Index shift = ow * p.stride_w + w, stride = p.stride_w;
            const Index begin =
                std::clamp<Index>(shift < 0 ? (-shift + stride - 1) / stride : 0, 0, n);
            const Index end = std::clamp<Index>((p.IW - shift + stride - 1) / stride, begin, n);
            const auto border = [&](Index first, Index last) {
                for (Index i = first; i < last; ++i) {
                    const Index iw = padded_source(shift + i * stride, p.IW, p.padding_mode);
                    to[done + i] = iw < 0 ? T(0) : row[iw];
                }
            };
            border(0, begin);
            const T* inner = row + shift;
            if (stride == 1)
                for (Index i = begin; i < end; ++i) to[done + i] = inner[i];
            else if (stride == 2)
                for (Index i = begin; i < end; ++i) to[done + i] = inner[2 * i];
            else
                for (Index i = begin; i < end; ++i) to[done + i] = inner[stride * i];
            border(end, n);
        }
        done += n;
    }
}

}  // namespace ai3
