// Direct convolution with vectors along the output channels, for every layout.
//
// The work is cut into chunks of output rows; what a chunk reads of the input stays in the
// second-level cache, copied with its padding in place if need be. Within a chunk, blocks of output
// channels; within a block, stretches of pixels whose sums stay in the first-level cache while the
// input channels go by in parts, so that the weights of a part are read from a near cache. Pixels
// of so many channels that a stretch of them fills that cache are read in parts of these outermost,
// and sums wait in the output. While a tile multiplies weights, it fetches a share of the next
// ones.
#pragma once

#include "kernels/channel_tile.hpp"
#include "kernels/gather_channels.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"
#include "ops/conv2d/padding.hpp"

namespace ai3 {

// A block of at most max_vectors vectors of output channels and the input channels it reads: those
// of its group or, where vectors span groups, of all groups it touches, with zero weights between.
struct ChannelBlock {
    Index first_oc, end_oc;
    Index first_ic, end_ic;
    bool foreign;  // whether some of these are of another group than some of its output channels
    int vectors;
    Index packed;  // where its bias lies in the packed weights, followed by its weights
};

// From T to O: sums are in float for bfloat16, the output may be either. A tile reads the input as
// Read, T or, for bfloat16, float, to which it is then converted as it is copied.
template <typename T, typename O = T, typename Read = T>
class DirectChannelsPlan final : public Plan {
    using Sum = Lane<T>;
    static constexpr Index W = lanes<T>, group = multiplied<Read>;
    static constexpr bool converted = !std::is_same_v<T, Read>;
    // Elements of packed weights that a bias is as long as.
    static constexpr Index bias_elements = Index(sizeof(Sum) / sizeof(T));
    static constexpr Index width = max_vectors * W;
    static constexpr Index most_pixels = 128;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }
    static constexpr Index round_up(Index n, Index to) { return divide(n, to) * to; }

    // Channels whose weights, so many of each, stay in a near cache.
    static Index near_channels(Index weights) {
        constexpr Index bytes = Index{256} << 10;
        return std::max<Index>(1, bytes / (weights * Index(sizeof(T)) * W)) * W;
    }

    // How an image is cut.
    struct Schedule {
        // Whether chunks of the input are copied, and the layout of what is read in the end.
        bool copied;
        Layout read;
        // Whether the pixels of a chunk are copied to a pitch at which they do not share cache
        // sets.
        bool spread;
        // Whether pixels are fetched before the processor asks for them: planes lie too far from
        // each other for its own prefetching.
        bool fetched;
        // Output rows and their pixels; a pointwise convolution sees one long row.
        Index rows, row_pixels;
        // A unit is a segment of a long row or some short rows; a chunk is some units.
        Index segments, segment, unit_rows, units, chunk_units, chunks;
        // Parts of the output channels that threads take by themselves.
        Index parts;
        // Channels of the input that a chunk is read in at a time.
        Index depth;
        Index copy_rows, copy_width;

        explicit Schedule(const Conv2d& p) {
            const bool pointwise = p.KH == 1 && p.KW == 1, dense = p.input_layout == Layout::dense;
            // Blocks of channels are read best, unless much of them would be empty.
            const bool to_blocks =
                !dense || sizeof(T) == 2 || 5 * round_up(p.group_ic(), W) <= 6 * p.group_ic();
            // A pointwise layer reads NCHW in place, but with a stride not for many blocks: a line
            // holds few of the pixels that it reads.
            const bool strided = p.stride_h > 1 || p.stride_w > 1;
            const bool in_place =
                pointwise && sizeof(T) > 2 && !(strided && p.group_oc() > 16 * width);
            const bool odd = p.input_layout == Layout::channels_last && p.group_ic() % group;
            copied = converted || p.padded() || odd || (dense && to_blocks && !in_place);
            read = !copied ? p.input_layout : to_blocks ? Layout::blocked : Layout::dense;
            const bool flat = pointwise && !copied && p.stride_h == 1 && p.stride_w == 1;
            rows = flat ? 1 : p.OH;
            row_pixels = flat ? p.OH * p.OW : p.OW;
            fetched = flat && dense && past_caches(p);
            constexpr Index sets_bytes = 4096;
            spread = flat && p.input_layout == Layout::channels_last &&
                     p.IC * Index(sizeof(T)) % sets_bytes == 0;

            // Threads share an image unless each has images of its own.
            const Index sharing = p.N % p.threads == 0 || p.N >= 4 * p.threads ? 1 : p.threads;
            segments = divide(row_pixels, most_pixels);
            if (segments > 1 || rows == 1) {
                segments = std::min(round_up(segments, sharing), row_pixels);
                segment = divide(row_pixels, segments);
                // Stores of whole vectors.
                if (segments >= 8) segment = std::min(round_up(segment, W), most_pixels);
                segments = divide(row_pixels, segment);
                unit_rows = 1;
                units = rows * segments;
            } else {
                segment = row_pixels;
                units = std::min(round_up(divide(rows * row_pixels, most_pixels), sharing), rows);
                unit_rows = std::min(divide(rows, units), most_pixels / row_pixels);
                units = divide(rows, unit_rows);
            }

            // What a chunk reads fits into a part of a second-level cache.
            constexpr Index cache = Index{384} << 10;
            const Index pixel_bytes = round_up(p.IC, W) * Index(sizeof(Read));
            const Index unit_bytes =
                (segments > 1 && !copied ? segment * p.stride_w : unit_rows * p.stride_h * p.IW) *
                pixel_bytes;
            chunks = divide(units, whole(std::clamp<Index>(cache / unit_bytes, 1, units)));
            depth = flat && sums_in_output(p) && unit_bytes > 2 * cache
                        ? std::min(round_up(divide(p.IC, divide(unit_bytes, cache)), W),
                                   near_channels(width))
                        : p.IC;
            parts = 1;
            if (sharing > 1) {
                const Index blocks = divide(p.OC, width);
                const double by_parts = unevenness(blocks, sharing);
                const double by_chunks = unevenness(p.N * units, sharing);
                const bool heavy = p.OC * p.group_ic() * p.KH * p.KW > 2 * p.IC * p.IH * p.IW;
                // Chunks that meet within a cache line of every channel cost both threads.
                const bool apart = p.output_layout != Layout::dense ||
                                   (segments > 1 ? segment : unit_rows * row_pixels) % W == 0;
                if (by_parts < by_chunks - 0.02 ||
                    ((heavy || !apart) && by_parts <= by_chunks + (apart ? 0.02 : 0.08)))
                    parts = sharing;
                else
                    chunks = round_up(chunks, sharing);
            }
            chunk_units = whole(divide(units, chunks));
            chunks = divide(units, chunk_units);
            copy_rows =
                (chunk_units * unit_rows / (unit_rows > 1 ? 1 : segments) - 1) * p.stride_h +
                (p.KH - 1) * p.dilation_h + 1;
            copy_width = p.reach_w();
        }

        // Whether each block of output channels has room there for sums that are not whole.
        static bool sums_in_output(const Conv2d& p) {
            return in_float && p.groups == 1 && p.output_layout != Layout::dense &&
                   (p.output_layout == Layout::blocked || p.OC % W == 0);
        }
        // Units of a copied chunk make whole rows.
        Index whole(Index n) const { return copied ? round_up(n, segments) : n; }
        Index spread_pixel() const { return depth + W; }
        static double unevenness(Index tasks, Index threads) {
            return double(round_up(tasks, threads)) / double(tasks);
        }
        std::size_t copy_bytes(const Conv2d& p) const {
            if (spread)
                return align_up(std::size_t(chunk_units * segment * spread_pixel()) * sizeof(T));
            if (!copied) return 0;
            const Index channels = read == Layout::blocked ? round_up(p.IC, W) : p.IC;
            return align_up(std::size_t(channels * copy_rows * copy_width) * sizeof(Read));
        }
    };

  public:
    static constexpr bool in_float = std::is_same_v<O, Sum>;

    DirectChannelsPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), s(p), blocks(cut(p, s.read)), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        return (Schedule(p).copy_bytes(p) + sums_bytes()) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const Output<O> out(p, inputs, static_cast<O*>(output));
        const ImageStrides strides = p.input_strides();
        const std::size_t each = s.copy_bytes(p) + sums_bytes();
        parallel_for(p.threads, p.N * s.chunks * s.parts, [&](Index i, int thread) {
            const Index chunk = i % s.chunks, image = i / s.chunks % p.N;
            const Index part = i / s.chunks / p.N;
            std::byte* own = workspace + std::size_t(thread) * each;
            Sum* sums = reinterpret_cast<Sum*>(own);
            const Index begin = chunk * s.chunk_units;
            const Index end = std::min(begin + s.chunk_units, s.units);
            const T* pixels = input + image * strides.image;
            Source source{nullptr, 0, 0, 0, strides};
            Read* copy = reinterpret_cast<Read*>(own + sums_bytes());
            if (s.copied)
                source = copy_chunk(pixels, first_row(begin), last_row(end - 1), copy);
            else if constexpr (!converted)
                source.pixels = pixels;
            const Index count = Index(blocks.size());
            const Index first = count * part / s.parts, last = count * (part + 1) / s.parts;
            for (Index channel = 0; channel == 0 || channel < p.IC; channel += s.depth) {
                if constexpr (!converted)
                    if (s.spread)
                        source =
                            spread_chunk(pixels, begin * s.segment,
                                         std::min(end * s.segment, s.row_pixels), channel, copy);
                for (Index b = first; b < last; ++b)
                    for (Index unit = begin; unit < end; ++unit)
                        run_unit(source, blocks[std::size_t(b)],
                                 {image, unit, channel, unit - begin, end - begin, b == first,
                                  b + 1 == last},
                                 sums, out);
            }
            out.finish();
        });
    }

  private:
    // What a chunk reads: the pixels of the input from output row `row` and, in a long row,
    // `column` on, and of them the channels from `channel` on.
    struct Source {
        const Read* pixels;
        Index row, column, channel;
        ImageStrides strides;
    };

    // A unit of an image, of which the channels from `channel` on are read; how many units of its
    // chunk were done with this block before, of how many; whether the block is the first or last.
    struct Turn {
        Index image, unit, channel, done, count;
        bool first, last;
    };

    static std::size_t sums_bytes() { return align_up(most_pixels * width * sizeof(Sum)); }

    Index first_row(Index unit) const {
        return s.segments > 1 ? unit / s.segments : unit * s.unit_rows;
    }
    Index last_row(Index unit) const {
        return s.segments > 1 ? unit / s.segments : std::min((unit + 1) * s.unit_rows, s.rows) - 1;
    }

    Source copy_chunk(const T* image, Index first, Index last, Read* copy) const {
        const Index row = first * p.stride_h - p.pad_top;
        const Index rows = (last - first) * p.stride_h + (p.KH - 1) * p.dilation_h + 1;
        const ImageStrides strides(s.read, p.dtype, p.IC, s.copy_rows, s.copy_width);
        if (s.read == Layout::blocked) {
            for (Index block = 0; block * W < p.IC; ++block)
                copy_block(p, image, block, row, -p.pad_left, rows, s.copy_width,
                           copy + block * strides.block_stride);
        } else {
            for (Index ic = 0; ic < p.IC; ++ic)
                for (Index h = 0; h < rows; ++h) {
                    Read* to = copy + ic * strides.block_stride + h * strides.row;
                    const Index ih = padded_source(row + h, p.IH, p.padding_mode);
                    if (ih < 0)
                        std::fill(to, to + s.copy_width, Read(0));
                    else
                        copy_row(p, image + (ic * p.IH + ih) * p.IW, -p.pad_left, s.copy_width, to);
                }
        }
        return {copy, first, 0, 0, strides};
    }

    Source spread_chunk(const T* image, Index begin, Index end, Index channel, T* copy) const {
        ImageStrides strides = p.input_strides();
        strides.pixel = s.spread_pixel();
        const Index count = std::min(s.depth, p.IC - channel);
        for (Index i = begin; i < end; ++i)
            std::copy_n(image + i * p.IC + channel, count, copy + (i - begin) * strides.pixel);
        return {copy, 0, begin, channel, strides};
    }

    std::pair<Index, Index> channels_of(const ChannelBlock& block, const Turn& turn) const {
        return {std::max(block.first_ic, turn.channel),
                std::min(block.end_ic, turn.channel + s.depth)};
    }

    // The weights that are multiplied next: how many bytes they lie behind, and by how many tiles
    // they are fetched, 0: by none, beginning with which of these.
    struct Fetching {
        Index behind, tiles, number;
    };

    // While `tiles` tiles of a unit multiply channels [first, end) of a block.
    Fetching fetched_by(const ChannelBlock& block, const Turn& turn, Index first, Index end,
                        Index tiles) const {
        const Index channel_bytes = p.KH * p.KW * block.vectors * W * Index(sizeof(T));
        // The same channels of the next block, fetched by all units.
        if (std::pair(first, end) == channels_of(block, turn))
            return {(block.end_ic - block.first_ic) * channel_bytes,
                    turn.last ? 0 : turn.count * tiles, turn.done * tiles};
        // The next channels, which are the next block's after the last ones of the last unit.
        const bool again =
            end == channels_of(block, turn).second && (turn.last || turn.done + 1 < turn.count);
        return {(end - first) * channel_bytes, again ? 0 : tiles, 0};
    }

    void run_unit(const Source& source, const ChannelBlock& block, const Turn& turn, Sum* sums,
                  const Output<O>& out) const {
        const ImageStrides& from = source.strides;
        const Index unit = turn.unit, image = turn.image;
        const Index block_width = block.vectors * W, taps = p.KH * p.KW;
        const Index row = first_row(unit), rows = last_row(unit) - row + 1;
        const Index begin = s.segments > 1 ? unit % s.segments * s.segment : 0;
        const Index n = std::min(s.row_pixels - begin, s.segment);
        const T* first_weight = packed->template as<T>() + block.packed;
        const Sum* bias = reinterpret_cast<const Sum*>(first_weight);
        const T* weights = first_weight + block_width * bias_elements;
        const Read* first = source.pixels + (row - source.row) * p.stride_h * from.row +
                            (begin - source.column) * p.stride_w * from.pixel;

        // Channels go by in parts whose weights stay in a near cache, the sums with them.
        const Index most = near_channels(taps * block_width);
        // Even tiles, of one size and of one less.
        const Index tiles = (n + max_pixels(block.vectors) - 1) / max_pixels(block.vectors);
        const Index large = (n + tiles - 1) / tiles, more = n - tiles * (large - 1);
        // Sums that are whole at once go to where they belong, else they stay in the cache.
        const Index pixel = row * s.row_pixels + begin;
        const auto [first_ic, end_ic] = channels_of(block, turn);
        const bool ends = end_ic == block.end_ic;
        Sum* whole = nullptr;
        if constexpr (in_float)
            if (end_ic - first_ic <= most)
                whole = out.vectors(image, block.first_oc, block.end_oc, pixel);
        const Epilogue<O>& epilogue = out.epilogue();
        const bool relu = epilogue.relu();
        const Index out_pixel = whole ? out.pixel() : block_width;
        const Index out_vector = whole ? out.vector() : W;
        Sum* target = whole ? whole : sums;
        for (Index ic = first_ic; ic < end_ic;) {
            const Index count = std::min(most, end_ic - ic);
            TileReduction<Read> reduction = reduce(from, count);
            reduction.out_pixel = out_pixel, reduction.out_vector = out_vector;
            reduction.relu = whole && relu && ends;
            reduction.half = half_empty<T>(block.end_oc - block.first_oc);
            using Tile = ChannelTile<Read, T>;
            const Tile run = find_channel_tile<Read, T>(reduction, block.vectors, large);
            const Tile run_less =
                more < tiles ? find_channel_tile<Read, T>(reduction, block.vectors, large - 1)
                             : run;
            const T* w = weights + (ic - block.first_ic) * taps * block_width;
            Fetching fetching = fetched_by(block, turn, ic, ic + count, rows * tiles);
            const Sum* start = ic == block.first_ic ? bias : nullptr;
            for (Index r = 0; r < rows; ++r) {
                const Read* pixels =
                    first + from.channel(ic - source.channel) + r * p.stride_h * from.row;
                Sum* to = target + r * n * out_pixel;
                for (Index t = 0; t < tiles; ++t) {
                    const Index some = t < more ? large : large - 1;
                    if (turn.first && s.fetched)
                        for (Index c = 0; c < count; ++c)
                            fetch(pixels + c * from.block_stride + s.segment, some);
                    if (fetching.tiles)
                        reduction.fetch_next(fetching.behind, count * taps / group,
                                             block_width * group * Index(sizeof(T)),
                                             fetching.number++, fetching.tiles);
                    (t < more ? run : run_less)(reduction, pixels, w, start, to);
                    pixels += some * reduction.pixel_stride;
                    to += some * out_pixel;
                }
            }
            ic += count;
        }
        if (block.foreign)
            for (int v = 0; v < block.vectors; ++v) {
                Sum* vectors = target + v * out_vector;
                if (!any_nan(vectors, out_pixel, rows * n)) continue;
                for (Index i = 0; i < rows * n; ++i)
                    sum_own_groups(
                        block, v, from,
                        first + i / n * p.stride_h * from.row + i % n * p.stride_w * from.pixel,
                        whole && relu, vectors + i * out_pixel);
            }
        if (!ends) return;
        if (!whole)
            out.write(sums, block_width, image, block.first_oc, block.end_oc, pixel, rows * n);
        else if constexpr (in_float)
            for (int v = 0; !relu && v < block.vectors; ++v)
                apply_to_vectors(epilogue, whole + v * out_vector, out_pixel, rows * n);
    }

    static bool any_nan(const Sum* vectors, Index stride, Index n) {
        VecIndex<Sum> numbers = ~VecIndex<Sum>{};
        for (Index i = 0; i < n; ++i) {
            const Vec<Sum> v = load(vectors + i * stride);
            numbers &= v == v;
        }
        bool all = true;
        for (Index l = 0; l < W; ++l) all = all && numbers[l];
        return !all;
    }

    // Sums anew those of a pixel's vector that are NaN, each of its own group's channels alone, in
    // the order of the tile: zero weights do not keep infinities and NaN of other groups away.
    void sum_own_groups(const ChannelBlock& block, int vector, const ImageStrides& from,
                        const Read* pixel, bool relu, Sum* sums) const {
        const T* first_weight = packed->template as<T>() + block.packed;
        const Sum* bias = reinterpret_cast<const Sum*>(first_weight);
        const T* weights = first_weight + block.vectors * W * bias_elements;
        for (Index l = 0; l < W; ++l) {
            if (sums[l] == sums[l]) continue;
            const Index lane = vector * W + l, oc = block.first_oc + lane;
            sums[l] = bias[lane];
            if (oc >= block.end_oc) continue;
            const Index end = (oc / p.group_oc() + 1) * p.group_ic() - block.first_ic;
            for (Index ic = end - p.group_ic(), stop; ic < end; ic = stop) {
                stop = std::min(end, (ic / together(s.read) + 1) * together(s.read));
                for (Index kh = 0; kh < p.KH; ++kh)
                    for (Index kw = 0; kw < p.KW; ++kw)
                        for (Index c = ic; c < stop; ++c)
                            sums[l] += Sum(weights[packed_at(block, c, kh * p.KW + kw, lane)]) *
                                       Sum(pixel[from.channel(block.first_ic + c) +
                                                 kh * p.dilation_h * from.row +
                                                 kw * p.dilation_w * from.pixel]);
            }
            if (relu && sums[l] < 0) sums[l] = 0;
        }
    }

    // Where a block's packed weights have that of input channel `ic`, from the first one that it
    // reads on, under element `tap` of the kernel for output channel `lane` of the block.
    Index packed_at(const ChannelBlock& block, Index ic, Index tap, Index lane) const {
        const Index size = together(s.read), start = ic / size * size;
        const Index channels = round_up(block.end_ic - block.first_ic, group);
        const Index some = std::min(size, channels - start);
        const Index step = start * p.KH * p.KW + tap * some + (ic - start) / group * group;
        return step * block.vectors * W + lane * group + (ic - start) % group;
    }

    // Channels that a reduction takes together; the last ones may be fewer.
    static Index together(Layout read) { return read == Layout::dense ? 1 : W; }

    TileReduction<Read> reduce(const ImageStrides& from, Index count) const {
        const bool all = s.read == Layout::channels_last && p.KH == 1 && p.KW == 1;
        const Index channels = all ? round_up(count, group) : together(s.read);
        if (channels == 1 && p.KH == 1 && p.KW == 1) {
            auto rows = TileReduction<Read>::of_rows(count, from.block_stride);
            rows.pixel_stride = p.stride_w * from.pixel;
            return rows;
        }
        TileReduction<Read> r{divide(count, channels),
                              p.KH,
                              p.KW,
                              channels,
                              s.read == Layout::channels_last ? W : from.block_stride,
                              p.dilation_h * from.row,
                              p.dilation_w * from.pixel,
                              p.stride_w * from.pixel};
        r.last_channels = round_up(count % channels, group);
        return r;
    }

    static std::vector<ChannelBlock> cut(const Conv2d& p, Layout read) {
        // In the blocked layout a vector of output channels may belong to more than one group.
        const bool spans = p.output_layout == Layout::blocked && p.group_oc() % W;
        const Index range = spans ? p.OC : p.group_oc();
        const Index aligned = read == Layout::blocked ? W : group;
        std::vector<ChannelBlock> blocks;
        Index packed = 0;
        for (Index start = 0; start < p.OC; start += range)
            for (Index oc = start; oc < start + range; oc += width) {
                const Index end = std::min(oc + width, start + range);
                const Index first_group = oc / p.group_oc(), last_group = (end - 1) / p.group_oc();
                const Index first_ic = first_group * p.group_ic() / aligned * aligned;
                const Index end_ic = (last_group + 1) * p.group_ic();
                const bool foreign =
                    p.groups > 1 && round_up(end_ic, group) - first_ic > p.group_ic();
                const int vectors = int(divide(end - oc, W));
                blocks.push_back({oc, end, first_ic, end_ic, foreign, vectors, packed});
                packed += vectors * W *
                          (bias_elements + round_up(end_ic - first_ic, group) * p.KH * p.KW);
            }
        return blocks;
    }

    // For each block its bias and its weights as (together, KH, KW, channels, vectors); those of
    // channels that it does not have or read are zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const Index taps = p.KH * p.KW;
        const ChannelBlock& last = blocks.back();
        const Index count =
            last.packed + last.vectors * W *
                              (bias_elements + round_up(last.end_ic - last.first_ic, group) * taps);
        const std::string name = std::string(name_of(p.dtype)) + (group > 1 ? " pairs" : "") +
                                 " direct by channels of " + std::string(name_of(s.read)) + " to " +
                                 std::string(name_of(p.output_layout));
        return weights.packed(name, std::size_t(count) * sizeof(T), [&](Buffer& buffer) {
            with_weights<T>(weights, [&](const auto* from, const auto* from_bias) {
                parallel_for(p.threads, Index(blocks.size()), [&](Index i, int) {
                    const ChannelBlock& block = blocks[std::size_t(i)];
                    pack_block(block, from, from_bias, buffer.as<T>() + block.packed);
                });
            });
        });
    }

    template <typename From, typename Bias>
    void pack_block(const ChannelBlock& block, const From* from, const Bias* from_bias,
                    T* packed) const {
        const Index taps = p.KH * p.KW, block_width = block.vectors * W;
        const Index channels = round_up(block.end_ic - block.first_ic, group);
        Sum* bias = reinterpret_cast<Sum*>(packed);
        T* to = packed + block_width * bias_elements;
        std::fill(bias, bias + block_width, Sum(0));
        std::fill(to, to + channels * taps * block_width, T(0));
        if (from_bias) std::copy(from_bias + block.first_oc, from_bias + block.end_oc, bias);
        // A row of weights for each run of output channels in one group.
        const Index K = p.group_ic() * taps;
        for (Index oc = block.first_oc, count; oc < block.end_oc; oc += count) {
            const Index part = oc / p.group_oc(), lane = oc - block.first_oc;
            count = std::min({W - lane % W, (part + 1) * p.group_oc() - oc, block.end_oc - oc});
            const Index first = part * p.group_ic() - block.first_ic;
            for (Index k = 0; k < K; k += W) {
                Lane<From> square[W * W];
                const Index n = std::min(W, K - k);
                gather_channels(from + oc * K + k, K, n, count, square, W);
                for (Index l = 0; l < n; ++l) {
                    const Index ic = first + (k + l) / taps, tap = (k + l) % taps;
                    T* target = to + packed_at(block, ic, tap, lane);
                    for (Index c = 0; c < count; ++c) target[c * group] = T(square[l * W + c]);
                }
            }
        }
    }

    Conv2d p;
    Schedule s;
    std::vector<ChannelBlock> blocks;
    std::shared_ptr<const Buffer> packed;
};

}  // namespace ai3
