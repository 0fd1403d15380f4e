#include "kernels/depthwise_tile.hpp"

#include <array>

namespace ai3 {
namespace {

// p + n, step by step: the compiler would compute all addresses of a tile ahead and has not the
// registers for them.
template <typename T>
inline void advance(T*& p, Index n) {
    p += n;
    asm("" : "+r"(p));
}

// PX pixels. KW is the kernel's width and STEP the stride where the dilation is 1, 0: as `r` says.
template <typename T, int KW, int STEP, int PX>
void depthwise_tile(const DepthwiseRow<T>& r, Index column, T* out, const Epilogue<T>& epilogue) {
    constexpr int W = lanes<T>;
    Vec<T> acc[PX];
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p) acc[p] = load(r.weights);
    if constexpr (KW > 0) {
        constexpr int reach = (PX - 1) * STEP + KW;
        const auto add = [&](auto on_image) {
            for (Index kh = r.begin; kh < r.end; ++kh) {
                const T* in = r.rows[kh] + column * r.pixel;
                const T* w = r.weights + (1 + kh * KW) * W;
                Vec<T> row[KW];
#pragma GCC unroll 8
                for (int kw = 0; kw < KW; ++kw) row[kw] = load(w + kw * W);
#pragma GCC unroll 32
                for (int i = 0; i < reach; ++i, advance(in, r.pixel)) {
                    if (!on_image(i)) continue;
                    const Vec<T> x = in_register(load(in));
#pragma GCC unroll 8
                    for (int kw = 0; kw < KW; ++kw)
                        if (i >= kw && (i - kw) % STEP == 0 && (i - kw) / STEP < PX)
                            acc[(i - kw) / STEP] += row[kw] * x;
                }
            }
        };
        if (column >= 0 && column + reach <= r.columns) {
            add([](int) { return true; });
        } else {
            static_assert(reach <= 32);
            const Index first = std::clamp<Index>(-column, 0, reach);
            const Index last = std::clamp<Index>(r.columns - column, first, reach);
            const auto on = std::uint32_t((std::uint64_t{1} << last) - (std::uint64_t{1} << first));
            add([=](int i) { return on >> i & 1; });
        }
    } else {
        for (Index kh = r.begin; kh < r.end; ++kh) {
            const T* w = r.weights + (1 + kh * r.KW) * W;
            for (Index kw = 0; kw < r.KW; ++kw, w += W) {
                const Vec<T> row = load(w);
                const Index first = column + kw * r.dilation;
                const bool inside = first >= 0 && first + (PX - 1) * r.step < r.columns;
                const T* in = r.rows[kh] + first * r.pixel;
#pragma GCC unroll 16
                for (int p = 0; p < PX; ++p, advance(in, r.step * r.pixel))
                    if (inside || std::size_t(first + p * r.step) < std::size_t(r.columns))
                        acc[p] += row * load(in);
            }
        }
    }

    if (r.relu)
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p) acc[p] = at_least<T>(acc[p], T(0));
    const bool whole = r.live.bits() == LaneMask<T>::all;
    T* to = out;
    if (whole) {
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p, advance(to, r.out_pixel)) store(to, acc[p]);
    } else {
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p, advance(to, r.out_pixel)) r.live.store(to, acc[p]);
    }
    if (whole)
        apply_to_vectors(epilogue, out, r.out_pixel, PX);
    else if (!epilogue.empty())
        for (int p = 0; p < PX; ++p) apply(epilogue, out + p * r.out_pixel, r.live);
}

template <typename T, int KW, int STEP, int... I>
constexpr auto tiles_of(std::integer_sequence<int, I...>) {
    return std::array<DepthwiseTile<T>, sizeof...(I)>{depthwise_tile<T, KW, STEP, I + 1>...};
}

template <typename T, int KW, int STEP>
DepthwiseTile<T> find(Index pixels) {
    static constexpr auto tiles =
        tiles_of<T, KW, STEP>(std::make_integer_sequence<int, most_depthwise_pixels>{});
    return tiles[std::size_t(pixels - 1)];
}

}  // namespace

// The kernels and strides that occur most are known to the compiler, for double 3x3 alone.
template <typename T>
DepthwiseTile<T> find_depthwise_tile(Index KW, Index step, Index dilation, Index pixels) {
    if (dilation == 1 && step == 1 && KW == 3) return find<T, 3, 1>(pixels);
    if constexpr (sizeof(T) == sizeof(float)) {
        if (dilation == 1 && step == 1) {
            if (KW == 5) return find<T, 5, 1>(pixels);
            if (KW == 7) return find<T, 7, 1>(pixels);
        }
        if (dilation == 1 && step == 2) {
            if (KW == 3) return find<T, 3, 2>(pixels);
            if (KW == 5) return find<T, 5, 2>(pixels);
        }
    }
    return find<T, 0, 0>(pixels);
}

template DepthwiseTile<float> find_depthwise_tile(Index, Index, Index, Index);
template DepthwiseTile<double> find_depthwise_tile(Index, Index, Index, Index);

}  // namespace ai3
