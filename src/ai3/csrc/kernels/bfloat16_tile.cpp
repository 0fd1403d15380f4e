// The register tile of bfloat16: each step multiplies pairs of channels of some pixels.

#include <array>

#include "kernels/channel_tile.hpp"
#include "kernels/dot_pairs.hpp"

namespace ai3 {

#if defined(__AVX512F__)
namespace {

// V vectors of channels x PX pixels. STEP is the stride of the pixels and CHANNELS that of a block,
// 0: as `r` says.
template <int V, int PX, int STEP, int CHANNELS>
void tile(const TileReduction<bfloat16>& r, const bfloat16* in, const bfloat16* weights,
          const float* bias, float* out) {
    constexpr int W = lanes<float>, pair = 2;
    const Index step = STEP ? STEP : r.pixel_stride, channels = CHANNELS ? CHANNELS : r.channels;
    const Index out_pixel = r.out_pixel ? r.out_pixel : V * W, out_vector = r.out_vector;
    const Index ahead_step = r.ahead_step ? r.ahead_step : V * W * Index(sizeof(float));
    const char* ahead = reinterpret_cast<const char*>(weights) + r.ahead;
    const auto place = [&](int p, int v) { return out + p * out_pixel + v * out_vector; };
    Vec<float> acc[V][PX];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[v][p] = load(bias ? bias + v * W : place(p, v));

    for (Index block = 0; block < r.blocks; ++block, in += r.block_stride) {
        const bool fewer = r.last_channels && block == r.blocks - 1;
        const Index count = fewer ? r.last_channels : channels;
        const bfloat16* row = in;
        for (Index kh = 0; kh < r.KH; ++kh, row += r.kh_stride) {
            const bfloat16* pixel = row;
            for (Index kw = 0; kw < r.KW; ++kw, pixel += r.kw_stride)
                for (Index c = 0; c < count;
                     c += pair, weights += V * W * pair, ahead += ahead_step) {
                    Vec<float> w[V];
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) {
                        w[v] = load(reinterpret_cast<const float*>(weights) + v * W);
                        __builtin_prefetch(ahead + v * W * Index(sizeof(float)));
                    }
#pragma GCC unroll 16
                    for (int p = 0; p < PX; ++p) {
                        const Vec<float> x = broadcast_pair(pixel + p * step + c);
#pragma GCC unroll 2
                        for (int v = 0; v < V; ++v) dot_pairs(acc[v][p], w[v], x);
                    }
                }
        }
    }

    if (r.relu)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[v][p] = acc[v][p] < 0.f ? Vec<float>{} : acc[v][p];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(place(p, v), acc[v][p]);
}

using Tile = ChannelTile<bfloat16>;

template <int V, int STEP, int CHANNELS, int... I>
constexpr auto tiles_of(std::integer_sequence<int, I...>) {
    return std::array<Tile, sizeof...(I)>{tile<V, I + 1, STEP, CHANNELS>...};
}

template <int STEP, int CHANNELS>
Tile find(int vectors, Index pixels) {
    static constexpr auto one =
        tiles_of<1, STEP, CHANNELS>(std::make_integer_sequence<int, max_pixels(1)>{});
    static constexpr auto two =
        tiles_of<2, STEP, CHANNELS>(std::make_integer_sequence<int, max_pixels(2)>{});
    return vectors == 1 ? one[std::size_t(pixels - 1)] : two[std::size_t(pixels - 1)];
}

}  // namespace
#endif

template <>
ChannelTile<bfloat16> find_channel_tile(const TileReduction<bfloat16>& r, int vectors,
                                        Index pixels) {
#if defined(__AVX512F__)
    constexpr int W = lanes<float>;
    if (r.channels == W && r.pixel_stride == W) return find<W, W>(vectors, pixels);
    if (r.channels == W && r.pixel_stride == 2 * W) return find<2 * W, W>(vectors, pixels);
    return find<0, 0>(vectors, pixels);
#else
    (void)r, (void)vectors, (void)pixels;
    return nullptr;  // multiplies_pairs() is false
#endif
}

}  // namespace ai3
