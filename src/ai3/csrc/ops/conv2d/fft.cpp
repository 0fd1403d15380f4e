// Convolution as a product in the frequency domain, for large kernels. The image is cut into tiles
// that overlap by the kernel's extent less one (overlap-save); weights are transformed once; then,
// for groups of tiles that bound the workspace: transforms of the input's tiles, for each frequency
// one complex matrix product over the channels, inverse transforms. Vectors are along the channels.
//
// Mathieu, Henaff, LeCun, "Fast Training of Convolutional Networks through FFTs", arXiv 1312.5851;
// Zlateski, Jia, Li, Durand, "FFT Convolutions are Faster than Winograd on Modern CPUs", arXiv
// 1809.07851.

#include "kernels/fft.hpp"

#include "core/peak.hpp"
#include "kernels/channel_tile.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {
namespace {

// The length of the transforms and what follows from it, in one direction or in both.
struct Tiling {
    Index height, width;  // of the transforms
    Index rows, columns;  // of the output in a tile
    Index tile_rows, tile_columns;

    Tiling(const Conv2d& p, Index height, Index width)
        : height(height),
          width(width),
          rows(height - reach(p.KH, p.dilation_h) + 1),
          columns(width - reach(p.KW, p.dilation_w) + 1),
          tile_rows((p.OH + rows - 1) / rows),
          tile_columns((p.OW + columns - 1) / columns) {}

    static Index reach(Index kernel, Index dilation) { return (kernel - 1) * dilation + 1; }

    Index tiles() const { return tile_rows * tile_columns; }
    Index frequencies() const { return height * (width / 2 + 1); }
};

// Each input channel is a group of its own, or each such is read by some output channels.
bool depthwise(const Conv2d& p) { return p.group_ic() == 1; }

// Cycles, fitted to measurements on Zen 4: of a transform 2.7 for a vector of pixels and each
// factor of 2, of the products 1.2 for a multiply-add of a vector, of which a complex one has four;
// a byte of transformed weights costs 0.085, whatever the number of threads. Transforms are not
// limited by multiply-adds: on an Intel Xeon of model 207, which begins two in a cycle, they take 5
// to 6 of them, the products 1.2 as before.
double tiling_cost(const Conv2d& p, const Tiling& t, int threads) {
    const double W = AI3_VECTOR_BYTES / double(size_of(p.dtype));
    const double pixels = double(t.height * t.width), tiles = double(p.N * t.tiles());
    const double beside = multiply_adds_a_cycle();
    const double transform = 2.7 * beside * pixels * std::log2(pixels);
    const double groups = double(p.groups), oc = std::ceil(double(p.group_oc()) / W);
    const double frequencies = double(t.frequencies());
    if (depthwise(p))
        return tiles * std::ceil(double(p.OC) / W) * (2 * transform + 12 * beside * frequencies) /
               threads;
    const double ic = std::ceil(double(p.group_ic()) / W);
    const double products = frequencies * double(p.group_ic()) * oc;
    return groups * (tiles * ((ic + oc) * transform + 1.2 * 4 * products) / threads +
                     0.085 * products * 2 * AI3_VECTOR_BYTES);
}

Tiling best_tiling(const Conv2d& p) {
    const auto lengths = [](Index reach, Index output) {
        std::vector<Index> lengths;
        for (Index n = 8; n <= longest_fft; n *= 2) {
            if (n < reach) continue;
            lengths.push_back(n);
            if (n >= output + reach - 1) break;
        }
        return lengths;
    };
    std::optional<Tiling> best;
    for (Index height : lengths(Tiling::reach(p.KH, p.dilation_h), p.OH))
        for (Index width : lengths(Tiling::reach(p.KW, p.dilation_w), p.OW)) {
            const Tiling t(p, height, width);
            if (!best || tiling_cost(p, t, 1) < tiling_cost(p, *best, 1)) best = t;
        }
    return *best;
}

template <typename T>
class FftPlan final : public Plan {
    static constexpr Index W = lanes<T>, one = 2 * W;
    static constexpr int most_tiles = accumulators >= 24 ? 12 : 5;

    // Memory of one thread.
    struct Own {
        T* image;
        T* half;
        T* inverse;
        T* pair;
        T* work;

        Own(const ImageFft<T>& fft, const Tiling& t, std::byte* memory) {
            image = reinterpret_cast<T*>(memory);
            half = image + fft.image_size();
            inverse = half + fft.columns_size();
            pair = inverse + fft.columns_size();
            work = pair + t.width * one;
        }
        static std::size_t bytes(const Tiling& t) {
            const ImageFft<T> fft(t.height, t.width);
            return align_up(std::size_t(fft.image_size() + 2 * fft.columns_size() + t.width * one +
                                        fft.work_size()) *
                            sizeof(T));
        }
    };

    // How many tiles of one group of channels are transformed together, and the memory they take.
    struct Batch {
        Index ic_blocks, oc_blocks, tiles, count, input_size, output_size;

        Batch(const Conv2d& p, const Tiling& t) {
            constexpr Index bytes = Index{16} << 20;
            ic_blocks = (p.group_ic() + W - 1) / W;
            oc_blocks = (p.group_oc() + W - 1) / W;
            const Index all = p.N * t.tiles(), each = t.frequencies() * one;
            const Index most = std::clamp<Index>(
                bytes / (each * (ic_blocks + oc_blocks) * Index(sizeof(T))), 1, 4 * most_tiles);
            count = (all + most - 1) / most;
            tiles = (all + count - 1) / count;
            input_size = each * ic_blocks * tiles;
            output_size = each * oc_blocks * tiles;
        }
        std::size_t bytes() const { return std::size_t(input_size + output_size) * sizeof(T); }
    };

  public:
    FftPlan(const Conv2d& problem, const WeightSet& weights)
        : p(problem),
          t(best_tiling(p)),
          fft(t.height, t.width),
          batch(p, t),
          packed(pack(weights)) {}

    static std::size_t workspace_bytes(const Conv2d& p) {
        const Tiling t = best_tiling(p);
        const std::size_t shared = depthwise(p) ? 0 : Batch(p, t).bytes();
        return shared + Own::bytes(t) * std::size_t(p.threads);
    }

    void run(const void* const* inputs, void* output, std::byte* workspace) const override {
        const T* input = static_cast<const T*>(inputs[0]);
        T* out = static_cast<T*>(output);
        const Epilogue<T> epilogue = p.epilogue(inputs, out);
        const std::size_t shared = depthwise(p) ? 0 : batch.bytes(), each = Own::bytes(t);
        const auto own = [&](int thread) {
            return Own(fft, t, workspace + shared + std::size_t(thread) * each);
        };
        const Index all = p.N * t.tiles();
        if (depthwise(p)) {
            const Index blocks = (p.OC + W - 1) / W;
            parallel_for(p.threads, blocks * all, [&](Index i, int thread) {
                filter(input, i / all, i % all, own(thread), epilogue, out);
            });
            return;
        }
        T* v = reinterpret_cast<T*>(workspace);
        T* m = v + batch.input_size;
        for (Index group = 0; group < p.groups; ++group)
            for (Index first = 0; first < all; first += batch.tiles) {
                const Index count = std::min(batch.tiles, all - first);
                parallel_for(p.threads, batch.ic_blocks * count, [&](Index i, int thread) {
                    transform_input(input, group, i / count, first, i % count, own(thread), v);
                });
                parallel_for(p.threads, t.frequencies(),
                             [&](Index f, int) { multiply(v, group, f, count, m); });
                parallel_for(p.threads, batch.oc_blocks * count, [&](Index i, int thread) {
                    const Index block = i / count, tile = i % count;
                    const T* from = m + (block * batch.tiles + tile) * one;
                    const Index stride = batch.oc_blocks * batch.tiles * one;
                    write_tile(group * p.group_oc() + block * W,
                               std::min(W, p.group_oc() - block * W), first + tile, own(thread),
                               epilogue, out, [&](Index column) {
                                   return Column{from + column * t.height * stride, stride};
                               });
                });
            }
    }

  private:
    // The numbers of one column of a transform.
    struct Column {
        const T* data;
        Index stride;
    };

    Index tile_row(Index tile) const { return tile % t.tiles() / t.tile_columns * t.rows; }
    Index tile_column(Index tile) const { return tile % t.tile_columns * t.columns; }

    // One tile of one block of channels that are filtered by themselves.
    void filter(const T* input, Index block, Index tile, const Own& own,
                const Epilogue<T>& epilogue, T* out) const {
        const Index first = block * W, channels = std::min(W, p.OC - first);
        const T* planes[W];
        for (Index c = 0; c < channels; ++c)
            planes[c] = plane_of(input, tile, (first + c) / p.group_oc());
        load_tile(planes, channels, tile, own.image);
        const T* weights = packed->template as<T>() + block * t.frequencies() * one;
        // A column of the transform is filtered in its place.
        fft.forward(own.image, own.half, own.work, [&](Index column, const T* from) {
            T* to = own.half + column * t.height * one;
            const T* u = weights + column * t.height * one;
            for (Index i = 0; i < t.height * one; i += one)
                (Complex<T>::at(from + i) * Complex<T>::at(u + i)).put(to + i);
        });
        add_bias(first, own.half);
        write_tile(first, channels, tile, own, epilogue, out,
                   [&](Index column) { return Column{own.half + column * t.height * one, one}; });
    }

    const T* plane_of(const T* input, Index tile, Index channel) const {
        return input + (tile / t.tiles() * p.IC + channel) * p.IH * p.IW;
    }

    // Zero frequency is the sum of all pixels.
    void add_bias(Index first, T* zero_frequency) const {
        store(zero_frequency, load(zero_frequency) + load(bias() + first));
    }
    const T* bias() const { return packed->template as<T>() + bias_at(); }

    void transform_input(const T* input, Index group, Index block, Index first, Index tile,
                         const Own& own, T* v) const {
        const Index channels = std::min(W, p.group_ic() - block * W);
        const T* planes[W];
        for (Index c = 0; c < channels; ++c)
            planes[c] = plane_of(input, first + tile, group * p.group_ic() + block * W + c);
        load_tile(planes, channels, first + tile, own.image);
        const Index stride = batch.ic_blocks * batch.tiles * one;
        T* to = v + (block * batch.tiles + tile) * one;
        fft.forward(own.image, own.half, own.work, [&](Index column, const T* from) {
            for (Index y = 0; y < t.height; ++y)
                Complex<T>::at(from + y * one).put(to + (column * t.height + y) * stride);
        });
    }

    // A tile of the input with the padding in place, channels along lanes, absent ones zero, as
    // pairs of rows.
    void load_tile(const T* const* planes, Index channels, Index tile, T* to) const {
        const Index row = tile_row(tile) - p.pad_top, column = tile_column(tile) - p.pad_left;
        for (Index y = 0; y < t.height; ++y) {
            T* pixels = to + (y / 2 * t.width * 2 + y % 2) * W;
            const Index ih =
                row + y < p.IH + p.pad_bottom ? padded_source(row + y, p.IH, p.padding_mode) : -1;
            for (Index x = 0; x < t.width; x += W) {
                const Index n = std::min(W, t.width - x), iw = column + x;
                const Index low = std::clamp<Index>(-iw, 0, n);
                const Index high = std::clamp<Index>(p.IW - iw, low, n);
                Vec<T> square[W] = {};
                if (ih >= 0) {
                    const LaneMask<T> inside((1u << high) - (1u << low));
                    for (Index c = 0; c < channels; ++c)
                        square[c] = inside.load(planes[c] + ih * p.IW + iw);
                    for (Index l = 0; l < n && p.padding_mode != PaddingMode::zeros; ++l) {
                        if ((l >= low && l < high) || iw + l >= p.IW + p.pad_right) continue;
                        const Index source = padded_source(iw + l, p.IW, p.padding_mode);
                        for (Index c = 0; c < channels; ++c)
                            square[c][l] = planes[c][ih * p.IW + source];
                    }
                    transpose<T>(square);
                }
                for (Index l = 0; l < n; ++l) store(pixels + (x + l) * one, square[l]);
            }
        }
    }

    // All tiles and output channels at one frequency.
    void multiply(const T* v, Index group, Index f, Index count, T* m) const {
        const Index parts = (count + most_tiles - 1) / most_tiles;
        const T* weights = packed->template as<T>() +
                           (group * t.frequencies() + f) * batch.oc_blocks * p.group_ic() * one;
        v += f * batch.ic_blocks * batch.tiles * one;
        m += f * batch.oc_blocks * batch.tiles * one;
        for (Index block = 0; block < batch.oc_blocks; ++block) {
            T* to = m + block * batch.tiles * one;
            for (Index part = 0; part < parts; ++part) {
                const Index first = count * part / parts, n = count * (part + 1) / parts - first;
                product_for(n)(p.group_ic(), batch.tiles * one, v + first * one,
                               weights + block * p.group_ic() * one, to + first * one);
            }
            if (f == 0)
                for (Index tile = 0; tile < count; ++tile)
                    add_bias((group * batch.oc_blocks + block) * W, to + tile * one);
        }
    }

    // Complex sums over `channels` channels of weights (channel, 2, W) times the numbers of C tiles
    // in `v` (block of channels, tile, 2, W), blocks `stride` apart.
    template <int C>
    static void product(Index channels, Index stride, const T* v, const T* weights, T* out) {
        Vec<T> re[C] = {}, im[C] = {};
        for (; channels > 0; channels -= W, v += stride)
            for (Index l = 0; l < std::min(W, channels); ++l, weights += one) {
                const auto u = Complex<T>::at(weights);
#pragma GCC unroll 12
                for (int c = 0; c < C; ++c) {
                    const Vec<T> x = broadcast(v[c * one + l]), y = broadcast(v[c * one + W + l]);
                    re[c] += u.re * x;
                    im[c] += u.im * x;
                    re[c] -= u.im * y;
                    im[c] += u.re * y;
                }
            }
#pragma GCC unroll 12
        for (int c = 0; c < C; ++c) Complex<T>{re[c], im[c]}.put(out + c * one);
    }

    using Product = void (*)(Index, Index, const T*, const T*, T*);

    template <int... C>
    static Product product_of(Index tiles, std::integer_sequence<int, C...>) {
        static constexpr Product products[] = {product<C + 1>...};
        return products[tiles - 1];
    }
    static Product product_for(Index tiles) {
        return product_of(tiles, std::make_integer_sequence<int, most_tiles>{});
    }

    // The pixels of one tile for the output channels [first, first + channels), from the transform
    // whose columns column_of gives.
    template <typename ColumnOf>
    void write_tile(Index first, Index channels, Index tile, const Own& own,
                    const Epilogue<T>& epilogue, T* out, ColumnOf&& column_of) const {
        const Index row = tile_row(tile), column = tile_column(tile), plane = p.OH * p.OW;
        const Index rows = std::min(t.rows, p.OH - row);
        const Index columns = std::min(t.columns, p.OW - column);
        for (Index k = 0; k <= t.width / 2; ++k) {
            const Column c = column_of(k);
            fft.inverse_column(k, c.data, c.stride, (rows + 1) / 2 * 2, own.inverse, own.work);
        }
        out += (tile / t.tiles() * p.OC + first) * plane + row * p.OW + column;
        const T* pair = nullptr;
        for (Index y = 0; y < rows; ++y) {
            if (y % 2 == 0) pair = fft.inverse_rows(y, own.inverse, own.pair, own.work);
            for (Index x = 0; x < columns; x += W)
                store_channels(pair + (x * 2 + y % 2) * W, one, std::min(W, columns - x), channels,
                               out + y * p.OW + x, plane, epilogue);
        }
    }

    std::size_t bias_at() const {
        const Index blocks =
            depthwise(p) ? (p.OC + W - 1) / W : p.groups * batch.oc_blocks * p.group_ic();
        return std::size_t(blocks * t.frequencies() * one);
    }

    // Conjugate transforms of the weights, scaled for the inverse transform: for each group as
    // (frequency, block of OC, IC, 2, W), depthwise as (block of OC, frequency, 2, W). Then the
    // bias, blocks of W. Absent channels are zero.
    std::shared_ptr<const Buffer> pack(const WeightSet& weights) const {
        const bool single = depthwise(p);
        const Index groups = single ? 1 : p.groups;
        const Index group_oc = single ? p.OC : p.group_oc(), oc_blocks = (group_oc + W - 1) / W;
        const std::size_t bytes = (bias_at() + std::size_t(groups * oc_blocks * W)) * sizeof(T);
        const std::string name = "fft " + std::to_string(t.height) + " " + std::to_string(t.width);
        return weights.packed(name, bytes, [&](Buffer& buffer) {
            const T* from_bias = weights.data<T>(1);
            T* to_bias = buffer.as<T>() + bias_at();
            for (Index i = 0; i < groups * oc_blocks * W; ++i) {
                const Index oc = i % (oc_blocks * W);
                to_bias[i] = from_bias && oc < group_oc
                                 ? from_bias[i / (oc_blocks * W) * group_oc + oc]
                                 : T(0);
            }
            const Index size = fft.image_size() + fft.columns_size() + fft.work_size();
            Buffer room(std::size_t(size * p.threads) * sizeof(T));
            const Index IC = p.group_ic(), taps = p.KH * p.KW;
            parallel_for(p.threads, groups * oc_blocks * IC, [&](Index i, int thread) {
                const Index ic = i % IC, block = i / IC % oc_blocks, group = i / IC / oc_blocks;
                T* image = room.as<T>() + thread * size;
                std::fill(image, image + fft.image_size(), T(0));
                for (Index l = 0; l < std::min(W, group_oc - block * W); ++l) {
                    const T* from =
                        weights.data<T>(0) + ((group * group_oc + block * W + l) * IC + ic) * taps;
                    for (Index tap = 0; tap < taps; ++tap) {
                        const Index y = tap / p.KW * p.dilation_h, x = tap % p.KW * p.dilation_w;
                        image[((y / 2 * t.width + x) * 2 + y % 2) * W + l] = from[tap];
                    }
                }
                // Both forward transforms give twice their result.
                const Vec<T> scale = broadcast(T(0.25 / double(t.height * t.width)));
                T* to = buffer.as<T>() +
                        (single ? block * t.frequencies() * one
                                : ((group * t.frequencies() * oc_blocks + block) * IC + ic) * one);
                const Index stride = single ? one : oc_blocks * IC * one;
                T* half = image + fft.image_size();
                fft.forward(image, half, half + fft.columns_size(),
                            [&](Index column, const T* numbers) {
                                for (Index y = 0; y < t.height; ++y) {
                                    const auto u = Complex<T>::at(numbers + y * one);
                                    Complex<T>{u.re * scale, -u.im * scale}.put(
                                        to + (column * t.height + y) * stride);
                                }
                            });
            });
        });
    }

    Conv2d p;
    Tiling t;
    ImageFft<T> fft;
    Batch batch;
    std::shared_ptr<const Buffer> packed;
};

class Fft final : public Algorithm<Conv2d> {
  public:
    std::string_view name() const override { return "fft"; }

    std::string refusal(const Conv2d& p) const override {
        if (p.stride_h != 1 || p.stride_w != 1) return "the stride is above 1";
        const Index h = Tiling::reach(p.KH, p.dilation_h), w = Tiling::reach(p.KW, p.dilation_w);
        if (std::max(h, w) > longest_fft)
            return "the kernel spans " + std::to_string(h) + "x" + std::to_string(w) +
                   ", more than its transforms of " + std::to_string(longest_fft);
        return refuse_layouts(p);
    }

    std::size_t workspace_bytes(const Conv2d& p) const override {
        return with_type(p.dtype,
                         [&](auto zero) { return FftPlan<decltype(zero)>::workspace_bytes(p); });
    }

    double cost(const Conv2d& p) const override {
        return tiling_cost(p, best_tiling(p), p.threads);
    }

    std::unique_ptr<Plan> plan(const Conv2d& p, const WeightSet& weights) const override {
        return with_type(p.dtype, [&](auto zero) -> std::unique_ptr<Plan> {
            return std::make_unique<FftPlan<decltype(zero)>>(p, weights);
        });
    }
};

const Register<Conv2d, Fft> registered;

}  // namespace
}  // namespace ai3
