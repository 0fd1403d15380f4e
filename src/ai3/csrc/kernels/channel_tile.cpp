#include "kernels/channel_tile.hpp"

#include <array>

namespace ai3 {
namespace {

template <typename T>
struct HalfOf {
    typedef T type __attribute__((vector_size(sizeof(Vec<T>) / 2), aligned(sizeof(T)), may_alias));
};
template <typename T>
using Half = typename HalfOf<T>::type;

template <typename T>
Half<T> load_half(const T* p) {
    return *reinterpret_cast<const Half<T>*>(p);
}

// V vectors of channels x PX pixels. STEP is the stride of the pixels and CHANNELS that of a block,
// 0: as `r` says. HALF: the last vector is computed by halves of vectors, which take half the time
// where the processor cuts whole ones in two.
template <typename T, typename U, int V, int PX, int STEP, int CHANNELS, bool HALF>
void channel_tile(const TileReduction<T>& r, const T* in, const U* weights, const T* bias, T* out) {
    constexpr int W = lanes<T>, whole = V - HALF;
    const Index ahead_step = r.ahead_step ? r.ahead_step : V * W * Index(sizeof(U));
    const char* ahead = reinterpret_cast<const char*>(weights) + r.ahead;
    const Index step = STEP ? STEP : r.pixel_stride, channels = CHANNELS ? CHANNELS : r.channels;
    const Index out_pixel = r.out_pixel ? r.out_pixel : V * W, out_vector = r.out_vector;
    const auto place = [&](int p, int v) { return out + p * out_pixel + v * out_vector; };
    Vec<T> acc[V][PX];
    Half<T> half[PX];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p) {
#pragma GCC unroll 2
        for (int v = 0; v < whole; ++v) acc[v][p] = load(bias ? bias + v * W : place(p, v));
        if (HALF) half[p] = load_half(bias ? bias + whole * W : place(p, whole));
    }

    for (Index block = 0; block < r.blocks; ++block, in += r.block_stride) {
        const bool fewer = CHANNELS != 1 && r.last_channels && block == r.blocks - 1;
        const Index count = fewer ? r.last_channels : channels;
        const T* row = in;
        for (Index kh = 0; kh < r.KH; ++kh, row += r.kh_stride) {
            const T* pixel = row;
            for (Index kw = 0; kw < r.KW; ++kw, pixel += r.kw_stride)
                for (Index c = 0; c < count; ++c, weights += V * W, ahead += ahead_step) {
                    Vec<T> w[V];
                    Half<T> last;
#pragma GCC unroll 2
                    for (int v = 0; v < V; ++v) {
                        if (v < whole)
                            w[v] = load(weights + v * W);
                        else if constexpr (HALF)
                            last = load_half<T>(weights + v * W);
                        __builtin_prefetch(ahead + v * W * Index(sizeof(U)));
                    }
#pragma GCC unroll 16
                    for (int p = 0; p < PX; ++p) {
                        const T x = pixel[p * step + c];
#pragma GCC unroll 2
                        for (int v = 0; v < whole; ++v) acc[v][p] += w[v] * broadcast(x);
                        if (HALF) half[p] += last * x;
                    }
                }
        }
    }

    if (HALF)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p) {
            acc[whole][p] = Vec<T>{};
            __builtin_memcpy(&acc[whole][p], &half[p], sizeof(half[p]));
        }
    if (r.relu)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) acc[v][p] = acc[v][p] < T(0) ? Vec<T>{} : acc[v][p];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(place(p, v), acc[v][p]);
}

template <typename T, typename U, int V, int STEP, int CHANNELS, bool HALF, int... I>
constexpr auto tiles_of(std::integer_sequence<int, I...>) {
    return std::array<ChannelTile<T, U>, sizeof...(I)>{
        channel_tile<T, U, V, I + 1, STEP, CHANNELS, HALF>...};
}

template <typename T, int STEP, int CHANNELS, bool HALF = false, typename U = T>
ChannelTile<T, U> find(int vectors, Index pixels) {
    static constexpr auto one =
        tiles_of<T, U, 1, STEP, CHANNELS, HALF>(std::make_integer_sequence<int, max_pixels(1)>{});
    static constexpr auto two =
        tiles_of<T, U, 2, STEP, CHANNELS, HALF>(std::make_integer_sequence<int, max_pixels(2)>{});
    return vectors == 1 ? one[std::size_t(pixels - 1)] : two[std::size_t(pixels - 1)];
}

}  // namespace

// The strides that occur most are known to the compiler. For double most of them gain nothing.
template <typename T, typename U>
ChannelTile<T, U> find_channel_tile(const TileReduction<T>& r, int vectors, Index pixels) {
    constexpr int W = lanes<T>;
    if constexpr (!std::is_same_v<T, U>) {
        if (r.channels == W && r.pixel_stride == W) return find<T, W, W, false, U>(vectors, pixels);
        return find<T, 0, 0, false, U>(vectors, pixels);
    } else {
        const bool planes = r.channels == 1 && r.pixel_stride == 1;
        if constexpr (sizeof(T) == sizeof(float)) {
            const bool blocks = r.channels == W && r.pixel_stride == W;
            const bool second_pixels = r.channels == 1 && r.pixel_stride == 2;
            if constexpr (half_vectors)
                if (r.half)
                    return planes          ? find<T, 1, 1, true>(vectors, pixels)
                           : second_pixels ? find<T, 2, 1, true>(vectors, pixels)
                           : blocks        ? find<T, W, W, true>(vectors, pixels)
                                           : find<T, 0, 0, true>(vectors, pixels);
            if (blocks) return find<T, W, W>(vectors, pixels);
            if (second_pixels) return find<T, 2, 1>(vectors, pixels);
            if (r.channels == W && r.pixel_stride == 2 * W)
                return find<T, 2 * W, W>(vectors, pixels);
        }
        if (planes) return find<T, 1, 1>(vectors, pixels);
        return find<T, 0, 0>(vectors, pixels);
    }
}

template ChannelTile<float> find_channel_tile(const TileReduction<float>&, int, Index);
template ChannelTile<double> find_channel_tile(const TileReduction<double>&, int, Index);
template ChannelTile<float, bfloat16> find_channel_tile(const TileReduction<float>&, int, Index);

}  // namespace ai3
