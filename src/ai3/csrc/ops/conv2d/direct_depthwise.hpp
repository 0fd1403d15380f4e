// Direct depthwise convolution (one input and one output channel to a group) with vectors along
// the channels. Wide images of channels side by side are read where they lie; others go some rows
// at a time through a copy, in blocks and with the padding in place.
#pragma once

#include "kernels/depthwise_tile.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {

template <typename T>
class DirectDepthwisePlan final : public Plan {
    static constexpr Index W = lanes<T>;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }

    // Chunks are some output rows of a block of channels.
    struct Schedule {
        Index blocks, chunk_rows, chunks;
        Index interior_begin, interior_end;  // output columns that see no padding

        explicit Schedule(const Conv2d& p) : blocks(divide(p.IC, W)) {
            // What a chunk reads stays in the first-level cache; where all channels of a pixel lie
            // together, what all blocks read in the second.
            const bool last = p.input_layout == Layout::channels_last;
            const Index bytes = Index{last ? 256 : 20} << 10;
            const Index row_bytes = p.reach_w() * (last ? p.IC : W) * Index(sizeof(T));
            const Index rows = bytes / row_bytes - (p.KH - 1) * p.dilation_h;
            chunk_rows = std::clamp<Index>(rows / p.stride_h, std::min<Index>(4, p.OH), p.OH);
            chunks = divide(p.OH, chunk_rows);
            if (p.N * blocks * chunks < 4 * p.threads && p.threads > 1)
                chunks = std::min(p.OH, divide(Index{4} * p.threads, p.N * blocks));
            chunk_rows = divide(p.OH, chunks);
            chunks = divide(p.OH, chunk_rows);
            const Index reach = (p.KW - 1) * p.dilation_w;
            interior_begin = std::min(divide(p.pad_left, p.stride_w), p.OW);
            const Index inside = p.IW + p.pad_left - reach;
            interior_end = std::clamp<Index>(inside > 0 ? divide(inside, p.stride_w) : 0,
                                             interior_begin, p.OW);
        }

        Index copy_rows(const Conv2d& p) const {
            return (chunk_rows - 1) * p.stride_h + (p.KH - 1) * p.dilation_h + 1;
        }
        std::size_t copy_bytes(const Conv2d& p) const {
            return align_up(std::size_t(copy_rows(p) * p.reach_w() * W) * sizeof(T));
        }
        // A row of output where it is not stored as vectors of channels.
        std::size_t row_bytes(const Conv2d& p) const {
            return align_up(std::size_t(p.OW * W) * sizeof(T));
        }
        std::size_t thread_bytes(const Conv2d& p) const {
            return copy_bytes(p) + row_bytes(p) +
                   align_up(std::size_t(p.IW * p.input_strides().pixel + W) * sizeof(T));
        }
    };

  public:
    static bool fits(const Conv2d& p) { return p.groups == p.IC && p.OC == p.IC; }

    DirectDepthwisePlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), s(p), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        return Schedule(p).thread_bytes(p) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const Output<T> out(p, inputs, static_cast<T*>(output));
        const ImageStrides strides = p.input_strides();
        const bool last = p.input_layout == Layout::channels_last;
        parallel_for(p.threads, p.N * s.blocks * s.chunks, [&](Index i, int thread) {
            const Index inner = last ? s.blocks : s.chunks, rest = i / inner;
            const Index block = last ? i % inner : rest % s.blocks;
            const Index chunk = last ? rest % s.chunks : i % inner;
            const Index image = rest / (last ? s.chunks : s.blocks);
            const Chunk c{input + image * strides.image,
                          image,
                          block,
                          chunk * s.chunk_rows,
                          std::min((chunk + 1) * s.chunk_rows, p.OH),
                          workspace + std::size_t(thread) * s.thread_bytes(p)};
            if (in_place(block))
                run_in_place(c, out);
            else
                run_copied(c, out);
            out.finish();
        });
    }

  private:
    struct Chunk {
        const T* image;
        Index number, block, begin, end;
        std::byte* workspace;
    };

    DepthwiseRow<T> row_of(const T* const* rows, Index block, Index pixel) const {
        const T* weights = packed->template as<T>() + block * W * (1 + p.KH * p.KW);
        return {rows, p.KH, p.KW, pixel, p.stride_w, p.dilation_w, weights, 0};
    }

    // All rows of the chunk through a copy with the padding in place.
    void run_copied(const Chunk& c, const Output<T>& out) const {
        T* copy = reinterpret_cast<T*>(c.workspace);
        const Index width = p.reach_w();
        const Index rows = (c.end - 1 - c.begin) * p.stride_h + (p.KH - 1) * p.dilation_h + 1;
        copy_block(p, c.image, c.block, c.begin * p.stride_h - p.pad_top, -p.pad_left, rows, width,
                   copy);
        std::vector<const T*>& under = row_pointers();
        T* line = reinterpret_cast<T*>(c.workspace + s.copy_bytes(p));
        for (Index oh = c.begin; oh < c.end; ++oh) {
            for (Index kh = 0; kh < p.KH; ++kh)
                under[std::size_t(kh)] =
                    copy + ((oh - c.begin) * p.stride_h + kh * p.dilation_h) * width * W;
            run_columns(row_of(under.data(), c.block, W), c, oh, 0, p.OW, 0, line, out);
        }
    }

    // Whether the copy would cost more than the columns at the border do by themselves.
    bool in_place(Index block) const {
        constexpr Index wide = 40;
        const bool whole = p.input_layout == Layout::blocked ||
                           (p.input_layout == Layout::channels_last && (block + 1) * W <= p.IC);
        return whole && (!p.padded() || (p.IW >= wide && p.padding_mode == PaddingMode::zeros));
    }

    void run_in_place(const Chunk& c, const Output<T>& out) const {
        const ImageStrides strides = p.input_strides();
        std::vector<const T*>& under = row_pointers();
        T* line = reinterpret_cast<T*>(c.workspace + s.copy_bytes(p));
        T* zeros = reinterpret_cast<T*>(c.workspace + s.copy_bytes(p) + s.row_bytes(p));
        const Index first_row = c.begin * p.stride_h - p.pad_top;
        const Index last_row = (c.end - 1) * p.stride_h + (p.KH - 1) * p.dilation_h - p.pad_top;
        if (first_row < 0 || last_row >= p.IH)
            std::fill(zeros, zeros + p.IW * strides.pixel + W, T(0));
        const T* from = c.image + strides.channel(c.block * W);
        for (Index oh = c.begin; oh < c.end; ++oh) {
            for (Index kh = 0; kh < p.KH; ++kh) {
                const Index ih = oh * p.stride_h + kh * p.dilation_h - p.pad_top;
                under[std::size_t(kh)] = ih < 0 || ih >= p.IH ? zeros : from + ih * strides.row;
            }
            const DepthwiseRow<T> row = row_of(under.data(), c.block, strides.pixel);
            run_columns(row, c, oh, s.interior_begin, s.interior_end, p.pad_left, line, out);
            run_border(row, c, oh, 0, s.interior_begin, line, out);
            run_border(row, c, oh, s.interior_end, p.OW, line, out);
        }
    }

    // Columns that see the padding, which is zero.
    void run_border(const DepthwiseRow<T>& row, const Chunk& c, Index oh, Index begin, Index end,
                    T* line, const Output<T>& out) const {
        if (begin == end) return;
        const Index first = c.block * W, last = std::min(first + W, p.OC);
        for (Index ow = begin; ow < end; ++ow) {
            const Index column = ow * p.stride_w - p.pad_left;
            Vec<T> sum = load(row.weights);
            for (Index kw = 0; kw < p.KW; ++kw) {
                const Index iw = column + kw * p.dilation_w;
                if (iw < 0 || iw >= p.IW) continue;
                Vec<T> part{};
                for (Index kh = 0; kh < p.KH; ++kh)
                    part += load(row.weights + (1 + kh * p.KW + kw) * W) *
                            load(row.rows[kh] + iw * row.pixel);
                sum += part;
            }
            store(line + (ow - begin) * W, sum);
        }
        out.write(line, W, c.number, first, last, oh * p.OW + begin, end - begin);
    }

    // Output columns [begin, end) of a row; what is read begins at padded column `left`.
    void run_columns(DepthwiseRow<T> row, const Chunk& c, Index oh, Index begin, Index end,
                     Index left, T* line, const Output<T>& out) const {
        const Index n = end - begin;
        if (n == 0) return;
        const Index first = c.block * W, last = std::min(first + W, p.OC);
        T* place = out.vectors(c.number, first, last, oh * p.OW + begin);
        const Epilogue<T> none, &epilogue = place ? out.epilogue() : none;
        T* to = place ? place : line;
        row.out_pixel = place ? out.pixel() : W;
        const Index tiles = divide(n, most_depthwise_pixels), large = divide(n, tiles);
        const Index more = n - tiles * (large - 1);
        const DepthwiseTile<T> run = find_depthwise_tile(row, large);
        const DepthwiseTile<T> run_less = more < tiles ? find_depthwise_tile(row, large - 1) : run;
        const Index offset = (begin * p.stride_w - left) * row.pixel;
        Index pixel = 0;
        for (Index t = 0; t < tiles; ++t) {
            (t < more ? run : run_less)(row, offset + pixel * p.stride_w * row.pixel,
                                        to + pixel * row.out_pixel, epilogue);
            pixel += t < more ? large : large - 1;
        }
        if (!place) out.write(line, W, c.number, first, last, oh * p.OW + begin, n);
    }

    std::vector<const T*>& row_pointers() const {
        thread_local std::vector<const T*> pointers;
        if (Index(pointers.size()) < p.KH) pointers.resize(std::size_t(p.KH));
        return pointers;
    }

    // For each block of channels its bias, then its weights as (KH, KW, lanes).
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index taps = p.KH * p.KW;
        const std::size_t bytes = std::size_t(s.blocks * W * (1 + taps)) * sizeof(T);
        return weights.packed("direct depthwise", bytes, [&](Buffer& buffer) {
            const T* from = weights.data<T>(0);
            const T* bias = weights.data<T>(1);
            T* to = buffer.as<T>();
            for (Index c = 0; c < s.blocks * W; ++c)
                for (Index k = 0; k <= taps; ++k) {
                    T value = 0;
                    if (c < p.OC && k > 0) value = from[c * taps + k - 1];
                    if (c < p.OC && k == 0 && bias) value = bias[c];
                    to[(c / W * (1 + taps) + k) * W + c % W] = value;
                }
        });
    }

    Conv2d p;
    Schedule s;
    std::shared_ptr<const Buffer> packed;
};

}  // namespace ai3
