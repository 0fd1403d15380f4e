// Convolution as a matrix product: output (OC, P) = weight (OC, K) * columns (K, P), P = OH * OW,
// where row k = (ic, kh, kw) of `columns` is the input as element (kh, kw) of the kernel sees it.
// The algorithms differ in where the columns come from; those of a pointwise convolution are the
// input itself.
//
// A panel of some vectors of pixels x a block of rows that stays in the first-level cache meets all
// weights of these rows, then the next block adds to its results. Where the pixels are so few that
// they would not fill vectors these lie along the output channels.
//
// Goto, van de Geijn, "Anatomy of High-Performance Matrix Multiplication", TOMS 34(3), 2008.
#pragma once

#include "kernels/channel_tile.hpp"
#include "kernels/gather_channels.hpp"
#include "kernels/pixel_panel.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"

namespace ai3 {

// Rows of the columns: `taps` elements of the kernel of each of some channels, counted over all
// groups. Either all elements or one channel.
struct RowBlock {
    Index channel, channels, tap, taps;

    Index rows() const { return channels * taps; }
};

// Some rows of a panel in memory.
template <typename T>
struct Rows {
    const T* data;
    Index pitch;
};

// How the product is cut.
template <typename T>
struct GemmBlocks {
    static constexpr Index W = lanes<T>;

    Index P, taps, K;
    bool in_place, by_channels;
    Index panels, panel_vectors, pitch;
    Index block_channels, block_taps, tap_blocks, blocks;
    // Groups whose columns are packed together, and how many such there are.
    Index groups_together, passes;
    // Of the output channels of a group: tiles of rows, or blocks of vectors.
    Index tiles, padded_oc;
    // Tasks for an image are panels x parts of the passes or, in a single group, of the tiles.
    Index parts;
    // Tiles of one group that a task sums at a time.
    Index summed_tiles;

    explicit GemmBlocks(const Conv2d& p)
        : P(p.OH * p.OW), taps(p.KH * p.KW), K(p.group_ic() * taps) {
        in_place = taps == 1 && p.stride_h == 1 && p.stride_w == 1 && !p.padded();
        const Index pixel_vectors = (P + W - 1) / W, oc_vectors = (p.group_oc() + W - 1) / W;
        // In vectors of multiply-adds; sums along channels are transposed in the end.
        by_channels = P <= 4 * W && P * oc_vectors * (K + 10) < pixel_vectors * p.group_oc() * K;
        panels = by_channels ? 1 : (pixel_vectors + ai3::panel_vectors - 1) / ai3::panel_vectors;
        panel_vectors = (pixel_vectors + panels - 1) / panels;
        pitch = panel_vectors * W;

        const Index deepest = by_channels ? 512 : 256;
        tap_blocks = (taps + deepest - 1) / deepest;
        block_taps = (taps + tap_blocks - 1) / tap_blocks;
        const Index channel_blocks = tap_blocks > 1 ? p.group_ic() : (K + deepest - 1) / deepest;
        block_channels = (p.group_ic() + channel_blocks - 1) / channel_blocks;
        blocks = (p.group_ic() + block_channels - 1) / block_channels * tap_blocks;
        groups_together =
            blocks > 1 || by_channels ? 1 : std::clamp<Index>(deepest / K, 1, p.groups);
        passes = (p.groups + groups_together - 1) / groups_together;
        if (by_channels) {
            tiles = (oc_vectors + max_vectors - 1) / max_vectors;
            padded_oc = oc_vectors * W;
        } else {
            tiles = (p.group_oc() + panel_rows - 1) / panel_rows;
            padded_oc =
                (tiles - 1) * panel_rows + tile_rows(p.group_oc() - (tiles - 1) * panel_rows);
        }
        const Index units = by_channels ? p.groups * tiles : p.groups > 1 ? passes : tiles;
        const Index tasks = std::max<Index>(p.N, 1) * panels,
                    wanted = p.threads == 1 ? 1 : 8 * p.threads;
        parts = std::clamp<Index>((wanted + tasks - 1) / tasks, 1, units);
        summed_tiles = blocks == 1 ? 1 : std::min(tiles, (units + parts - 1) / parts);
    }

    // Block i of the rows of a group whose first channel is `channel`.
    RowBlock block(const Conv2d& p, Index channel, Index i) const {
        const Index tap = i % tap_blocks * block_taps, first = i / tap_blocks * block_channels;
        return {channel + first, std::min(block_channels, p.group_ic() - first), tap,
                std::min(block_taps, taps - tap)};
    }

    // Of a panel: its first pixel, and its pixels.
    Index first(Index panel) const { return (P + W - 1) / W * panel / panels * W; }
    Index pixels(Index panel) const { return std::min(first(panel + 1), P) - first(panel); }

    // Rows that are packed together, in memory.
    std::size_t packed_bytes(const Conv2d& p) const {
        const Index channels = blocks == 1 ? groups_together * p.group_ic() : block_channels;
        const Index rows = channels * block_taps;
        return align_up(std::size_t(rows * pitch + W) * sizeof(T));
    }
    // Sums of pixels x vectors of channels.
    std::size_t sum_bytes() const {
        if (!by_channels) return 0;
        return align_up(std::size_t((P + W) * summed_tiles * max_vectors * W) * sizeof(T));
    }
};

// `Columns` gives the rows:
//   Columns(const Conv2d&, const GemmBlocks<T>&, const WeightSet&)
//   static std::size_t shared_bytes(const Conv2d&)      memory for one image, for all threads
//   static std::size_t thread_bytes(const Conv2d&, const GemmBlocks<T>&)     and for each of them
//   void prepare(const T* image, T* shared, std::byte* own, std::size_t own_stride) const
//                                                       before each image, all threads idle
//   Rows<T> rows(const T* image, const T* shared, std::byte* own, const RowBlock&, Index panel,
//                bool begins) const                     `begins`: the first of a panel in a task
template <typename T, typename Columns>
class GemmPlan final : public Plan {
    static constexpr Index W = lanes<T>;
    static constexpr Index C = panel_rows;

  public:
    GemmPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), b(p), columns(p, b, weights), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        const GemmBlocks<T> b(p);
        return shared_bytes(p, b) + thread_bytes(p, b) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        T* shared = reinterpret_cast<T*>(workspace);
        const std::size_t own_bytes = thread_bytes(p, b);
        std::byte* own = workspace + shared_bytes(p, b);
        const Index tasks = b.panels * b.parts;
        const auto work = [&](Index n, Index i, int thread) {
            const T* image = input + n * p.IC * p.IH * p.IW;
            T* to = out + n * p.OC * b.P;
            std::byte* room = own + std::size_t(thread) * own_bytes;
            if (b.by_channels)
                run_channels(image, shared, i, room, epilogue, to);
            else
                run_panel(image, shared, i / b.parts, i % b.parts, room, epilogue, to);
        };
        if (shared_bytes(p, b) == 0) {
            parallel_for(p.threads, p.N * tasks,
                         [&](Index i, int thread) { work(i / tasks, i % tasks, thread); });
            return;
        }
        for (Index n = 0; n < p.N; ++n) {
            columns.prepare(input + n * p.IC * p.IH * p.IW, shared, own, own_bytes);
            parallel_for(p.threads, tasks, [&](Index i, int thread) { work(n, i, thread); });
        }
    }

  private:
    static std::size_t shared_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return b.in_place ? 0 : align_up(Columns::shared_bytes(p));
    }
    static std::size_t thread_bytes(const Conv2d& p, const GemmBlocks<T>& b) {
        return b.sum_bytes() + (b.in_place ? 0 : align_up(Columns::thread_bytes(p, b)));
    }

    Rows<T> rows(const T* image, const T* shared, std::byte* own, const RowBlock& block,
                 Index panel, bool begins) const {
        if (b.in_place) return {image + block.channel * b.P + b.first(panel), b.P};
        return columns.rows(image, shared, own + b.sum_bytes(), block, panel, begins);
    }

    const T* bias_of(Index group) const { return packed->template as<T>() + group * b.padded_oc; }
    const T* weights_of(Index group) const {
        return packed->template as<T>() + (p.groups + group * b.K) * b.padded_oc;
    }

    void run_panel(const T* image, const T* shared, Index panel, Index part, std::byte* own,
                   const Epilogue<T>& epilogue, T* out) const {
        const auto share = [&](Index units, Index i) { return units * i / b.parts; };
        out += b.first(panel);
        if (p.groups == 1) {
            const Index begin = share(b.tiles, part), end = share(b.tiles, part + 1);
            run_group(image, shared, 0, panel, begin, end, true, own, epilogue, out);
            return;
        }
        bool begins = true;
        for (Index pass = share(b.passes, part); pass < share(b.passes, part + 1); ++pass) {
            const Index first = pass * b.groups_together;
            const Index count = std::min(b.groups_together, p.groups - first);
            if (b.blocks > 1) {
                run_group(image, shared, first, panel, 0, b.tiles, begins, own, epilogue, out);
            } else {
                const RowBlock all{first * p.group_ic(), count * p.group_ic(), 0, b.taps};
                const Rows<T> r = rows(image, shared, own, all, panel, begins);
                for (Index i = 0; i < count; ++i)
                    multiply({r.data + i * b.K * r.pitch, r.pitch}, first + i, 0, b.K, panel, 0,
                             b.tiles, epilogue, out);
            }
            begins = false;
        }
    }

    // Tiles [begin, end) of the output channels of one group.
    void run_group(const T* image, const T* shared, Index group, Index panel, Index begin,
                   Index end, bool begins, std::byte* own, const Epilogue<T>& epilogue,
                   T* out) const {
        Index k = 0;
        for (Index i = 0; i < b.blocks; ++i) {
            const RowBlock block = b.block(p, group * p.group_ic(), i);
            const Rows<T> r = rows(image, shared, own, block, panel, begins && i == 0);
            multiply(r, group, k, block.rows(), panel, begin, end, epilogue, out);
            k += block.rows();
        }
    }

    // Adds the products of `depth` rows from row k of the group on; the last ones finish the sums.
    void multiply(const Rows<T>& r, Index group, Index k, Index depth, Index panel, Index begin,
                  Index end, const Epilogue<T>& epilogue, T* out) const {
        const T* bias = bias_of(group);
        const T* a = weights_of(group) + b.padded_oc * k;
        out += group * p.group_oc() * b.P;
        const Index pixels = b.pixels(panel);
        const bool streamed = depth == b.K && streams(p, out);
        // Rows in place lie so far from each other that the processor does not fetch the next
        // panel's by itself.
        const bool fetched = b.in_place && panel + 1 < b.panels;
        const Index next = fetched ? b.first(panel + 1) - b.first(panel) : 0;
        for (Index tile = begin; tile < end; ++tile) {
            const auto share = [&](Index i) { return depth * (i - begin) / (end - begin); };
            if (fetched)
                for (Index row = share(tile); row < share(tile + 1); ++row)
                    fetch(r.data + row * r.pitch + next, b.panel_vectors * W);
            multiply_panel<T>(
                {depth, a + tile * C * depth, r.data, r.pitch, k == 0 ? bias + tile * C : nullptr,
                 out + tile * C * b.P, b.P, std::min(C, p.group_oc() - tile * C), pixels,
                 k + depth == b.K && !epilogue.empty() ? &epilogue : nullptr, streamed});
        }
        if (streamed) stream_fence();
    }

    // All pixels for a part of the blocks of output channels, of as many groups as they are in.
    void run_channels(const T* image, const T* shared, Index part, std::byte* own,
                      const Epilogue<T>& epilogue, T* out) const {
        const Index units = p.groups * b.tiles, last = units * (part + 1) / b.parts;
        for (Index unit = units * part / b.parts; unit < last;) {
            const Index group = unit / b.tiles, begin = unit % b.tiles;
            const Index end = std::min(b.tiles, begin + last - unit);
            sum_channels(image, shared, group, begin, end, own, epilogue,
                         out + group * p.group_oc() * b.P);
            unit += end - begin;
        }
    }

    void sum_channels(const T* image, const T* shared, Index group, Index begin, Index end,
                      std::byte* own, const Epilogue<T>& epilogue, T* out) const {
        T* sums = reinterpret_cast<T*>(own);
        const Index size = (b.P + W) * max_vectors * W;
        Index k = 0;
        for (Index i = 0; i < b.blocks; ++i) {
            const RowBlock block = b.block(p, group * p.group_ic(), i);
            const Rows<T> r = rows(image, shared, own, block, 0, i == 0);
            for (Index tile = begin; tile < end; ++tile) {
                T* to = sums + (b.blocks == 1 ? 0 : tile - begin) * size;
                sum_block(r, group, tile, k, block.rows(), to);
                if (i == b.blocks - 1) store_block(to, tile, epilogue, out);
            }
            k += block.rows();
        }
    }

    int vectors(Index tile) const {
        return int(std::min<Index>(max_vectors, b.padded_oc / W - tile * max_vectors));
    }

    void sum_block(const Rows<T>& r, Index group, Index tile, Index k, Index depth, T* sums) const {
        const int V = vectors(tile);
        const Index oc = tile * max_vectors * W, width = V * W;
        const Index most = max_pixels(V), tiles = (b.P + most - 1) / most;
        auto reduction = TileReduction<T>::of_rows(depth, r.pitch);
        reduction.half = half_empty<T>(std::min(width, p.group_oc() - oc));
        const T* weights = weights_of(group) + oc * b.K + k * width;
        for (Index t = 0; t < tiles; ++t) {
            const Index first = b.P * t / tiles, n = b.P * (t + 1) / tiles - first;
            find_channel_tile(reduction, V, n)(reduction, r.data + first, weights,
                                               k == 0 ? bias_of(group) + oc : nullptr,
                                               sums + first * width);
        }
    }

    void store_block(const T* sums, Index tile, const Epilogue<T>& epilogue, T* out) const {
        const int V = vectors(tile);
        for (int v = 0; v < V; ++v) {
            const Index oc = (tile * max_vectors + v) * W;
            for (Index pixel = 0; pixel < b.P; pixel += W)
                store_channels(sums + (pixel * V + v) * W, V * W, std::min(W, b.P - pixel),
                               p.group_oc() - oc, out + oc * b.P + pixel, b.P, epilogue);
        }
    }

    // Bias, then weights, absent ones zero: for each group and block of K as (tile of OC, k, rows
    // of the tile), by channels for each group as (block of OC, k, channels of the block).
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const std::size_t bytes = std::size_t(p.groups * b.padded_oc * (b.K + 1)) * sizeof(T);
        const char* name = b.by_channels ? "gemm by channels" : "gemm";
        return weights.packed(name, bytes, [&](Buffer& buffer) {
            T* bias = buffer.as<T>();
            T* to = bias + p.groups * b.padded_oc;
            const T* from_bias = weights.data<T>(1);
            const T* from = weights.data<T>(0);
            const Index tile = b.by_channels ? max_vectors * W : C;
            parallel_for(p.threads, p.groups * b.tiles, [&](Index i, int) {
                const Index group = i / b.tiles, first = i % b.tiles * tile;
                const Index width = std::min(tile, b.padded_oc - first);
                const Index oc = group * p.group_oc() + first;
                const Index real = std::min(width, p.group_oc() - first);
                for (Index c = 0; c < width; ++c)
                    bias[group * b.padded_oc + first + c] =
                        c < real && from_bias ? from_bias[oc + c] : T(0);
                T* group_to = to + group * b.padded_oc * b.K;
                for (Index j = 0, k = 0; j < b.blocks; ++j) {
                    const Index depth = b.block(p, 0, j).rows();
                    const T* rows = from + oc * b.K + k;
                    if (b.by_channels)
                        pack_vectors(rows, depth, real, width, group_to + first * b.K + k * width);
                    else
                        pack_rows(rows, depth, real, width,
                                  group_to + b.padded_oc * k + first * depth);
                    k += depth;
                }
            });
        });
    }

    // From (real, depth) of a matrix of K columns to (depth, width).
    void pack_rows(const T* from, Index depth, Index real, Index width, T* to) const {
        for (Index d = 0; d < depth; ++d, to += width)
            for (Index c = 0; c < width; ++c) to[c] = c < real ? from[c * b.K + d] : T(0);
    }
    // The same by squares, of a width in whole vectors.
    void pack_vectors(const T* from, Index depth, Index real, Index width, T* to) const {
        for (Index c = 0; c < width; c += W)
            for (Index d = 0; d < depth; d += W)
                gather_channels(from + c * b.K + d, b.K, std::min(W, depth - d), real - c,
                                to + d * width + c, width);
    }

    Conv2d p;
    GemmBlocks<T> b;
    Columns columns;
    std::shared_ptr<const Buffer> packed;
};

// What the algorithms of the family share; `Columns` as for GemmPlan.
template <template <typename> typename Columns>
class GemmAlgorithm : public Algorithm<Conv2d> {
  public:
    std::string refusal(const Conv2d& p) const override {
        if (p.IH * p.IW >= (Index{1} << 31)) return "an input plane has 2^31 elements or more";
        return refuse_layouts(p);
    }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype, [&](auto zero) {
            using T = decltype(zero);
            return GemmPlan<T, Columns<T>>::workspace_bytes(p);
        });
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            using T = decltype(zero);
            return std::make_unique<GemmPlan<T, Columns<T>>>(p, weights);
        });
    }
};

}  // namespace ai3
