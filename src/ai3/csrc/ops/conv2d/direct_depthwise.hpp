// Direct depthwise convolution (one input and one output channel to a group) with vectors along
// the channels. Channels that lie side by side are read in place; others, and those of bfloat16,
// which become float, go through copies of the few rows that a row of outputs needs, in a ring.
#pragma once

#include "kernels/depthwise_tile.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {

// From T to O, each float or bfloat16 where they differ.
template <typename T, typename O = T>
class DirectDepthwisePlan final : public Plan {
    using Sum = Lane<T>;
    static constexpr Index W = lanes<T>;
    static constexpr bool converted = !std::is_same_v<T, Sum>;
    // Whether tiles may store what they sum where it belongs.
    static constexpr bool in_float = !converted && std::is_same_v<O, Sum>;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }

    // Zeros beside the image are never read; what other paddings show is in the copy.
    static bool zero_padded(const Conv2d& p) {
        return !p.padded() || p.padding_mode == PaddingMode::zeros;
    }

    // Chunks are some output rows of a block of channels.
    struct Schedule {
        Index blocks, chunk_rows, chunks;
        Index ring_rows, ring_width;

        explicit Schedule(const Conv2d& p)
            : blocks(divide(p.IC, W)),
              chunks(1),
              ring_rows((p.KH - 1) * p.dilation_h + 1),
              ring_width(zero_padded(p) ? p.IW : p.reach_w()) {
            if (p.input_layout == Layout::channels_last) {
                // What all blocks read and write of some rows stays in the second-level cache.
                constexpr Index bytes = Index{512} << 10;
                const Index row_bytes = (p.IW * p.stride_h + p.OW) * p.IC * Index(sizeof(T));
                chunks = divide(p.OH, std::clamp<Index>(bytes / row_bytes, 4, p.OH));
            }
            if (p.N * blocks * chunks < 4 * p.threads && p.threads > 1)
                chunks = divide(Index{4} * p.threads, p.N * blocks);
            chunk_rows = divide(p.OH, std::min(chunks, p.OH));
            chunks = divide(p.OH, chunk_rows);
        }

        std::size_t ring_bytes() const {
            return align_up(std::size_t(ring_rows * ring_width * W) * sizeof(Sum));
        }
        // A row of output where it is not stored as vectors of channels.
        std::size_t line_bytes(const Conv2d& p) const {
            return align_up(std::size_t(p.OW * W) * sizeof(Sum));
        }
        std::size_t thread_bytes(const Conv2d& p) const { return ring_bytes() + line_bytes(p); }
    };

  public:
    static bool fits(const Conv2d& p) { return p.groups == p.IC && p.OC == p.IC; }

    DirectDepthwisePlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), s(p), packed(pack(weights)) {
        const Index count = divide(p.OW, most_depthwise_pixels);
        for (Index i = 0; i < count; ++i) {
            const Index ow = p.OW * i / count, pixels = p.OW * (i + 1) / count - ow;
            tiles.push_back({ow, find_depthwise_tile<Sum>(p.KW, p.stride_w, p.dilation_w, pixels)});
        }
    }

    static std::size_t workspace_bytes(const Conv2d& p) {
        return Schedule(p).thread_bytes(p) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const Output<O> out(p, inputs, static_cast<O*>(output));
        const bool last = p.input_layout == Layout::channels_last;
        parallel_for(p.threads, p.N * s.blocks * s.chunks, [&](Index i, int thread) {
            const Index inner = last ? s.blocks : s.chunks, rest = i / inner;
            const Index block = last ? i % inner : rest % s.blocks;
            const Index chunk = last ? rest % s.chunks : i % inner;
            const Index image = rest / (last ? s.chunks : s.blocks);
            run_chunk(input + image * p.input_strides().image, image, block, chunk, out,
                      workspace + std::size_t(thread) * s.thread_bytes(p));
            out.finish();
        });
    }

  private:
    struct Tile {
        Index ow;
        DepthwiseTile<Sum> run;
    };

    // A last block that is not full is read in place as the last full vector of channels, of which
    // the lanes that are another block's are not stored.
    bool overlaps() const {
        return in_float && p.input_layout == Layout::channels_last &&
               p.output_layout == Layout::channels_last && p.IC >= W && zero_padded(p);
    }
    Index first_channel(Index block) const {
        return overlaps() ? std::min(block * W, p.IC - W) : block * W;
    }
    bool in_place(Index block) const {
        if (converted || !zero_padded(p) || p.input_layout == Layout::dense) return false;
        return p.input_layout == Layout::blocked || overlaps() || (block + 1) * W <= p.IC;
    }

    void run_chunk(const T* image, Index number, Index block, Index chunk, const Output<O>& out,
                   std::byte* workspace) const {
        const ImageStrides strides = p.input_strides();
        const bool place = in_place(block), zeros = zero_padded(p);
        const Index first = block * W, last = std::min(first + W, p.OC);
        const Index channel = first_channel(block);
        [[maybe_unused]] const T* from = image + strides.channel(channel);
        Sum* ring = reinterpret_cast<Sum*>(workspace);
        Sum* line = reinterpret_cast<Sum*>(workspace + s.ring_bytes());
        std::vector<const Sum*>& rows = row_pointers();
        DepthwiseRow<Sum> row{};
        row.rows = rows.data();
        row.end = p.KH;
        row.columns = place ? p.IW : s.ring_width;
        row.pixel = place ? strides.pixel : W;
        row.KW = p.KW;
        row.step = p.stride_w;
        row.dilation = p.dilation_w;
        row.weights = packed->template as<Sum>() + block * W * (1 + p.KH * p.KW);
        const bool direct = in_float && p.output_layout != Layout::dense;
        row.out_pixel = direct ? out.pixel() : W;
        row.live = LaneMask<Sum>(LaneMask<Sum>::all);
        Epilogue<Sum> epilogue;
        if constexpr (in_float) {
            if (p.output_layout == Layout::channels_last)
                row.live = LaneMask<T>((1u << (last - channel)) - (1u << (first - channel)));
            row.relu = direct && out.epilogue().relu();
            if (direct && !row.relu) epilogue = out.epilogue();
        }
        const Index left = zeros ? p.pad_left : 0, end = std::min((chunk + 1) * s.chunk_rows, p.OH);
        // Rows of the padded image: those that were copied, and the end of those that are.
        Index copied = zeros ? p.pad_top : 0;
        const Index copies_end = zeros ? p.pad_top + p.IH : p.reach_h();
        for (Index oh = chunk * s.chunk_rows; oh < end; ++oh) {
            const Index padded = oh * p.stride_h, top = padded - p.pad_top;
            if (zeros) {
                row.begin = top < 0 ? divide(-top, p.dilation_h) : 0;
                row.end = std::min(p.KH, top < p.IH ? divide(p.IH - top, p.dilation_h) : 0);
            }
            for (Index kh = row.begin; kh < row.end; ++kh) {
                const Index h = padded + kh * p.dilation_h;
                rows[std::size_t(kh)] = ring + h % s.ring_rows * s.ring_width * W;
                if constexpr (!converted)
                    if (place) rows[std::size_t(kh)] = from + (h - p.pad_top) * strides.row;
            }
            if (!place)
                for (copied = std::max(copied, padded);
                     copied < std::min(padded + s.ring_rows, copies_end); ++copied)
                    copy_block(p, image, block, copied - p.pad_top, zeros ? 0 : -p.pad_left, 1,
                               s.ring_width, ring + copied % s.ring_rows * s.ring_width * W);
            Sum* to = line;
            if constexpr (in_float)
                if (direct) to = out.vectors(number, channel, channel + W, oh * p.OW);
            for (const Tile& tile : tiles)
                tile.run(row, tile.ow * p.stride_w - left, to + tile.ow * row.out_pixel, epilogue);
            if (!direct) out.write(line, W, number, first, last, oh * p.OW, p.OW);
        }
    }

    std::vector<const Sum*>& row_pointers() const {
        thread_local std::vector<const Sum*> pointers;
        if (Index(pointers.size()) < p.KH) pointers.resize(std::size_t(p.KH));
        return pointers;
    }

    // For each block of channels its bias, then its weights as (KH, KW, lanes).
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index taps = p.KH * p.KW;
        const std::size_t bytes = std::size_t(s.blocks * W * (1 + taps)) * sizeof(Sum);
        const char* name = converted    ? "direct depthwise, rounded"
                           : overlaps() ? "direct depthwise, overlapping"
                                        : "direct depthwise";
        return weights.packed(name, bytes, [&](Buffer& buffer) {
            with_weights<T>(weights, [&](const auto* from, const auto* bias) {
                Sum* to = buffer.as<Sum>();
                for (Index block = 0; block < s.blocks; ++block)
                    for (Index k = 0; k <= taps; ++k)
                        for (Index l = 0; l < W; ++l, ++to) {
                            const Index c = first_channel(block) + l;
                            if (c >= p.OC)
                                *to = 0;
                            else if (k > 0)
                                *to = Sum(T(from[c * taps + k - 1]));
                            else
                                *to = bias ? Sum(bias[c]) : Sum(0);
                        }
            });
        });
    }

    Conv2d p;
    Schedule s;
    std::shared_ptr<const Buffer> packed;
    std::vector<Tile> tiles;  // of a row of outputs
};

}  // namespace ai3
