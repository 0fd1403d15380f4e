// The implicit matrix product of bfloat16: panels of some vectors of pixels x a block of input
// channels under all elements of the kernel, packed from where the input has them, meet all output
// channels, along which the vectors of the sums lie. Where pairs are multiplied the two channels of
// a pair are packed side by side, elsewhere both are converted to float.
#pragma once

#include "kernels/channel_tile.hpp"
#include "kernels/dot_pairs.hpp"
#include "ops/conv2d/columns.hpp"
#include "ops/conv2d/op.hpp"
#include "ops/conv2d/output.hpp"

namespace ai3 {

// To O, bfloat16 or float. Panels are packed as Read, bfloat16 for pairs or float.
template <typename O, typename Read>
class ImplicitBfloat16Plan final : public Plan {
    using T = bfloat16;
    static constexpr Index W = lanes<T>, width = max_vectors * W, group = multiplied<Read>;

    static constexpr Index divide(Index n, Index by) { return (n + by - 1) / by; }

    struct Schedule {
        Index P, taps, panels, pitch;
        // Channels that are multiplied together: how many such a group has, and a block.
        Index steps, block_steps, blocks;
        // Blocks of output channels of one group; those of all are shared out as `parts`.
        Index tiles, padded_oc, parts, summed_tiles;

        explicit Schedule(const Conv2d& p) : P(p.OH * p.OW), taps(p.KH * p.KW) {
            const Index vectors = divide(P, W);
            panels = divide(vectors, panel_vectors);
            pitch = divide(vectors, panels) * W;
            constexpr Index deepest = 256;
            steps = divide(p.group_ic(), group);
            blocks = divide(steps, std::clamp<Index>(deepest / taps, 1, steps));
            block_steps = divide(steps, blocks);
            blocks = divide(steps, block_steps);
            tiles = divide(p.group_oc(), width);
            padded_oc = divide(p.group_oc(), W) * W;
            const Index units = p.groups * tiles, tasks = p.N * panels;
            const Index wanted = p.threads == 1 ? 1 : 8 * p.threads;
            parts = std::clamp<Index>(divide(wanted, std::max<Index>(tasks, 1)), 1, units);
            summed_tiles = std::min(tiles, divide(units, parts));
        }

        Index first(Index panel) const { return divide(P, W) * panel / panels * W; }
        Index pixels(Index panel) const { return std::min(first(panel + 1), P) - first(panel); }

        Index row() const { return pitch * group; }
        std::size_t list_bytes(const Conv2d& p) const {
            return align_up(std::size_t(taps * Pieces<T>(p).most(pitch)) * sizeof(Piece));
        }
        std::size_t panel_bytes() const {
            return align_up(std::size_t(block_steps * taps * row() + W * group) * sizeof(Read));
        }
        std::size_t thread_bytes(const Conv2d& p) const {
            return list_bytes(p) + panel_bytes() +
                   align_up(std::size_t(summed_tiles * pitch * width) * sizeof(float));
        }
    };

  public:
    ImplicitBfloat16Plan(const Conv2d& problem, const WeightSet& weights)
        : p(problem), s(p), pieces(p), packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        return Schedule(p).thread_bytes(p) * std::size_t(p.threads);
    }

    // In cycles of one thread: a multiply-add of a vector each, and the pieces.
    static double cost(const Conv2d& p) {
        constexpr double piece_cycles = 5.5, list_cycles = 17, stored = 17;
        const Schedule s(p);
        const double outputs = double(p.N * s.P * p.groups) * double(s.padded_oc / W);
        const double multiplied = step_cost(p) * double(s.steps * group * s.taps);
        const double repeats = double(p.N) * double(p.groups == 1 ? s.parts : 1);
        const double found = repeats * double(s.taps * Pieces<T>(p).most(s.P));
        return outputs * (multiplied + stored) +
               found * (piece_cycles * double(p.IC) + list_cycles);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        const Output<O> out(p, inputs, static_cast<O*>(output));
        parallel_for(p.threads, p.N * s.panels * s.parts, [&](Index i, int thread) {
            const Index part = i % s.parts, panel = i / s.parts % s.panels;
            const Index image = i / s.parts / s.panels, units = p.groups * s.tiles;
            std::byte* own = workspace + std::size_t(thread) * s.thread_bytes(p);
            Piece* list = reinterpret_cast<Piece*>(own);
            Piece* end = list;
            for (Index tap = 0; tap < s.taps; ++tap)
                pieces.each(tap, s.first(panel), s.pixels(panel), tap * s.pitch,
                            [&](const Piece& piece) { *end++ = piece; });
            const Index last = units * (part + 1) / s.parts;
            for (Index unit = units * part / s.parts; unit < last;) {
                const Index number = unit / s.tiles, tile = unit % s.tiles;
                const Index count = std::min(s.tiles - tile, last - unit);
                const T* channels = input + (image * p.IC + number * p.group_ic()) * p.IH * p.IW;
                sum_tiles(channels, list, end, number, tile, count, panel, image,
                          own + s.list_bytes(p), out);
                unit += count;
            }
            out.finish();
        });
    }

  private:
    int vectors(Index tile) const {
        return int(std::min<Index>(max_vectors, s.padded_oc / W - tile * max_vectors));
    }
    // Where the biases of a block of output channels lie, and its weights behind all biases.
    Index channel(Index number, Index tile) const { return number * s.padded_oc + tile * width; }
    const float* bias() const { return packed->template as<float>(); }
    const T* weights() const { return reinterpret_cast<const T*>(bias() + p.groups * s.padded_oc); }
    Index row_elements() const { return s.steps * s.taps * group; }

    // Some blocks of output channels of one group, whose input `channels` are.
    void sum_tiles(const T* channels, const Piece* list, const Piece* end, Index number, Index tile,
                   Index count, Index panel, Index image, std::byte* own,
                   const Output<O>& out) const {
        Read* rows = reinterpret_cast<Read*>(own);
        float* sums = reinterpret_cast<float*>(own + s.panel_bytes());
        const Index n = s.pixels(panel);
        for (Index step = 0; step < s.steps; step += s.block_steps) {
            const Index some = std::min(s.block_steps, s.steps - step);
            for (Index i = 0; i < some; ++i)
                pack_step(channels, (step + i) * group, list, end, rows + i * s.taps * s.row());
            for (Index i = 0; i < count; ++i)
                sum_block(rows, number, tile + i, step, some, n, sums + i * s.pitch * width);
        }
        const Index first = number * p.group_oc();
        for (Index i = 0; i < count; ++i)
            out.write(sums + i * s.pitch * width, vectors(tile + i) * W, image,
                      first + (tile + i) * width,
                      first + std::min((tile + i + 1) * width, p.group_oc()), s.first(panel), n);
    }

    // The rows of the channels that are multiplied together from `ic` on.
    void pack_step(const T* channels, Index ic, const Piece* list, const Piece* end,
                   Read* to) const {
        const T* plane = channels + ic * p.IH * p.IW;
        if constexpr (group == 1)
            pieces.each_vector(list, end, [&](Index at, Vec<T> x) { store(to + at, x); }, plane);
        else if (ic + 1 < p.group_ic())
            pieces.each_vector(
                list, end,
                [&](Index at, Vec<T> x, Vec<T> y) { store_pairs(to + at * group, x, y); }, plane,
                plane + p.IH * p.IW);
        else
            pieces.each_vector(
                list, end, [&](Index at, Vec<T> x) { store_pairs(to + at * group, x, Vec<T>{}); },
                plane);
    }

    void sum_block(const Read* rows, Index number, Index tile, Index step, Index steps, Index n,
                   float* sums) const {
        const int V = vectors(tile);
        const Index at = channel(number, tile);
        const T* w = weights() + at * row_elements() + step * s.taps * group * V * W;
        const TileReduction<Read> r{1, 1, steps * s.taps, group, 0, 0, s.row(), group};
        const Index most = max_pixels(V), tiles = divide(n, most);
        for (Index t = 0; t < tiles; ++t) {
            const Index first = n * t / tiles, pixels = n * (t + 1) / tiles - first;
            find_channel_tile<Read, T>(r, V, pixels)(r, rows + first * group, w,
                                                     step == 0 ? bias() + at : nullptr,
                                                     sums + first * V * W);
        }
    }

    // Biases as float; for each block of output channels its weights as (channels that are
    // multiplied together, element of the kernel, vectors, lanes, those channels), absent ones
    // zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& given) const {
        const Index channels = p.groups * s.padded_oc;
        const std::size_t bytes =
            std::size_t(channels) * (sizeof(float) + std::size_t(row_elements()) * sizeof(T));
        const char* name = group > 1 ? "implicit gemm of pairs" : "implicit gemm of bfloat16";
        return given.packed(name, bytes, [&](Buffer& buffer) {
            with_weights<T>(given, [&](const auto* from, const auto* from_bias) {
                float* biases = buffer.as<float>();
                std::fill(biases, biases + channels, 0.f);
                T* to = reinterpret_cast<T*>(biases + channels);
                parallel_for(p.threads, p.groups * s.tiles, [&](Index i, int) {
                    const Index number = i / s.tiles, tile = i % s.tiles;
                    const Index first = number * p.group_oc() + tile * width;
                    const Index count = std::min(width, p.group_oc() - tile * width);
                    if (from_bias)
                        std::copy(from_bias + first, from_bias + first + count,
                                  biases + channel(number, tile));
                    pack_block(from + first * p.group_ic() * s.taps, count, vectors(tile) * W,
                               to + channel(number, tile) * row_elements());
                });
            });
        });
    }

    template <typename From>
    void pack_block(const From* from, Index count, Index block_width, T* to) const {
        std::fill(to, to + block_width * row_elements(), T(0));
        for (Index c = 0; c < count; ++c)
            for (Index ic = 0; ic < p.group_ic(); ++ic)
                for (Index tap = 0; tap < s.taps; ++tap)
                    to[((ic / group * s.taps + tap) * block_width + c) * group + ic % group] =
                        T(*from++);
    }

    Conv2d p;
    Schedule s;
    Pieces<T> pieces;
    std::shared_ptr<const Buffer> packed;
};

}  // namespace ai3
