// The register tile of a depthwise convolution with vectors along channels: PX neighbouring pixels
// of one vector of channels. Each loaded input vector serves all elements of a kernel's row. What
// of the kernel lies beside the image is left out.
#pragma once

#include <array>

#include "kernels/epilogue.hpp"

namespace ai3 {

constexpr int most_depthwise_pixels = accumulators / 2;

// What the tiles of a row of outputs share.
template <typename T>
struct DepthwiseRow {
    const T* const* rows;  // for each row of the kernel column 0 of the input row under it
    Index begin, end;      // rows of the kernel that lie on the image
    Index columns;         // of the image
    Index pixel;           // from an input pixel to the next
    Index KW;
    Index step, dilation;  // in input pixels: between outputs, between elements of the kernel
    const T* weights;      // (KH, KW, lanes), after the bias (lanes)
    Index out_pixel;
    LaneMask<T> live;  // what is stored
};

// p + n, step by step: the compiler would compute all addresses of a tile ahead and has not the
// registers for them.
template <typename T>
inline void advance(T*& p, Index n) {
    p += n;
    asm("" : "+r"(p));
}

// Writes PX pixels of one vector of channels, whose kernels begin at input column `column`. KW is
// the kernel's width and STEP the stride where the dilation is 1, 0: as `r` says.
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
                    const Vec<T> x = load(in);
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

    const bool whole = r.live.bits() == LaneMask<T>::all;
    T* to = out;
    if (whole) {
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p, advance(to, r.out_pixel)) store(to, acc[p]);
    } else {
#pragma GCC unroll 16
        for (int p = 0; p < PX; ++p, advance(to, r.out_pixel)) r.live.store(to, acc[p]);
    }
    if (epilogue.empty()) return;
    for (int p = 0; p < PX; ++p, out += r.out_pixel) {
        if (whole)
            store(out, epilogue(load(out), out));
        else
            r.live.store(out, epilogue(r.live.load(out), out, r.live));
    }
}

template <typename T>
using DepthwiseTile = void (*)(const DepthwiseRow<T>&, Index, T*, const Epilogue<T>&);

namespace detail {

template <typename T, int KW, int STEP, int... I>
constexpr auto depthwise_tiles(std::integer_sequence<int, I...>) {
    return std::array<DepthwiseTile<T>, sizeof...(I)>{depthwise_tile<T, KW, STEP, I + 1>...};
}

template <typename T, int KW, int STEP>
DepthwiseTile<T> find_depthwise_tile(Index pixels) {
    static constexpr auto tiles =
        depthwise_tiles<T, KW, STEP>(std::make_integer_sequence<int, most_depthwise_pixels>{});
    return tiles[std::size_t(pixels - 1)];
}

}  // namespace detail

// The tile of `pixels`, at most most_depthwise_pixels, for kernels of width KW.
template <typename T>
DepthwiseTile<T> find_depthwise_tile(Index KW, Index step, Index dilation, Index pixels) {
    using detail::find_depthwise_tile;
    if (dilation == 1 && step == 1) {
        if (KW == 3) return find_depthwise_tile<T, 3, 1>(pixels);
        if (KW == 5) return find_depthwise_tile<T, 5, 1>(pixels);
        if (KW == 7) return find_depthwise_tile<T, 7, 1>(pixels);
    }
    if (dilation == 1 && step == 2) {
        if (KW == 3) return find_depthwise_tile<T, 3, 2>(pixels);
        if (KW == 5) return find_depthwise_tile<T, 5, 2>(pixels);
    }
    return find_depthwise_tile<T, 0, 0>(pixels);
}

}  // namespace ai3
