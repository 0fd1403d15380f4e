// Rows of the im2col matrix as pieces: runs of pixels that lie in the input at a fixed stride, or
// show zeros. The pieces of a channel are those of any other, from another place on.
#pragma once

#include "core/simd.hpp"
#include "kernels/pixel_panel.hpp"
#include "ops/conv2d/op.hpp"

namespace ai3 {

// At most a vector's lanes of one row (kh, kw) of a channel's columns: lane l, at `to` + l, is the
// element `from` + l * stride_w of the channel's plane where bit l * stride (of Pieces) is set,
// else zero. Pieces are in ascending order: the lanes past the end of one are written over by the
// next.
struct Piece {
    std::int32_t from;
    std::uint32_t to;
    std::uint64_t bits;
};

template <typename T>
class Pieces {
    static constexpr Index W = lanes<T>;

  public:
    explicit Pieces(const Conv2d& problem)
        : p(problem),
          stride(p.stride_w == 1 || p.stride_w == 2 || p.stride_w == 4 ? p.stride_w : 0),
          lane_bits(all_lanes(std::max<Index>(stride, 1))),
          flat(p.OW == p.IW && p.stride_h == 1 && p.stride_w == 1 &&
               p.padding_mode == PaddingMode::zeros) {}

    // No more pieces than this for a row of `pixels` pixels.
    Index most(Index pixels) const {
        const Index vectors = (pixels + W - 1) / W;
        if (flat) return vectors;
        if (p.padding_mode != PaddingMode::zeros) return pixels;
        return std::min(pixels, vectors + (pixels + p.OW - 2) / p.OW);
    }

    // Calls put(piece) for the pixels [pixel, pixel + pixels) of the row of the kernel's element
    // `tap`, which goes to `to`.
    template <typename Put>
    void each(Index tap, Index pixel, Index pixels, Index to, Put&& put) const {
        const Index kh = divide(tap, p.KW), kw = tap - kh * p.KW;
        const Index h = kh * p.dilation_h - p.pad_top, w = kw * p.dilation_w - p.pad_left;
        const auto piece = [&](Index from, Index at, std::uint64_t bits) {
            put(Piece{std::int32_t(from), std::uint32_t(at), bits});
        };
        Index oh = divide(pixel, p.OW), ow = pixel - oh * p.OW;
        if (flat) {
            for (Index done = 0; done < pixels; done += W) {
                const Index n = std::min(W, pixels - done);
                std::uint64_t bits = 0;
                for (Index lane = 0; lane < n;) {
                    const Index end = std::min(n, lane + p.OW - ow);
                    if (oh + h >= 0 && oh + h < p.IH) {
                        const Index low = std::clamp(lane - ow - w, lane, end);
                        const Index high = std::clamp(lane - ow - w + p.IW, low, end);
                        bits |= first(high) & ~first(low);
                    }
                    ow += end - lane;
                    if (ow == p.OW) ow = 0, ++oh;
                    lane = end;
                }
                piece(bits ? pixel + done + h * p.IW + w : 0, to + done, bits);
            }
            return;
        }
        for (Index done = 0; done < pixels; ++oh, ow = 0) {
            const Index n = std::min(p.OW - ow, pixels - done), at = to + done;
            done += n;
            const Index ih = padded_source(oh * p.stride_h + h, p.IH, p.padding_mode);
            if (ih < 0) {
                for (Index i = 0; i < n; i += W) piece(0, at + i, 0);
                continue;
            }
            // Columns [begin, end) of these n see the image itself.
            const Index shift = ow * p.stride_w + w, s = p.stride_w, row = ih * p.IW;
            const auto columns = [&](Index width) {  // of which all lie to the left
                return width <= 0 ? 0 : std::min(n, divide(width + s - 1, s));
            };
            const Index begin = columns(-shift), end = std::max(begin, columns(p.IW - shift));
            if (p.padding_mode == PaddingMode::zeros) {
                for (Index i = 0; i < n; i += W) {
                    const Index low = std::clamp<Index>(begin - i, 0, W);
                    const Index high = std::clamp<Index>(end - i, low, W);
                    piece(row + shift + i * s, at + i, spaced(low, high));
                }
                continue;
            }
            const auto border = [&](Index first, Index last) {
                for (Index i = first; i < last; ++i)
                    piece(row + padded_source(shift + i * s, p.IW, p.padding_mode), at + i, 1);
            };
            border(0, begin);
            for (Index i = begin; i < end; i += W)
                piece(row + shift + i * s, at + i, spaced(0, std::min(W, end - i)));
            border(end, n);
        }
    }

    // Copies the pieces [begin, end) of `plane`, which is one channel of the input, to `to`. Writes
    // less than a vector past the last, and nothing past to[limit] if there is a limit.
    void copy(const Piece* begin, const Piece* end, const T* plane, T* to, Index limit = 0) const {
        switch (stride) {
            case 1:
                return copy<1>(begin, end, plane, to, limit);
            case 2:
                return copy<2>(begin, end, plane, to, limit);
            case 4:
                return copy<4>(begin, end, plane, to, limit);
            default:
                return copy<0>(begin, end, plane, to, limit);
        }
    }

    // The same for `channels` planes of the input, `size` elements of `to` for each.
    void copy_channels(const Piece* begin, const Piece* end, const T* plane, Index channels, T* to,
                       Index size) const {
        constexpr Index ahead = 4;
        const Index plane_size = p.IH * p.IW;
        for (Index c = 0; c < channels; ++c, plane += plane_size, to += size) {
            // The last row of the kernel is the one whose pixels have not been met before.
            if (c + ahead < channels)
                for (const Piece* piece = end - std::min<Index>(panel_vectors, end - begin);
                     piece != end; ++piece)
                    __builtin_prefetch(plane + ahead * plane_size + piece->from);
            copy(begin, end, plane, to);
        }
    }

    // Calls put(to, x...) for each of the pieces [begin, end), where x are its pixels of the
    // channels `planes`, zero past its end.
    template <typename Put, typename... Plane>
    void each_vector(const Piece* begin, const Piece* end, Put&& put,
                     const Plane*... planes) const {
        const auto with_stride = [&]<int S>(std::integral_constant<int, S>) {
            for (; begin != end; ++begin)
                put(Index(begin->to), read<S>(*begin, planes + begin->from)...);
        };
        switch (stride) {
            case 1:
                return with_stride(std::integral_constant<int, 1>{});
            case 2:
                return with_stride(std::integral_constant<int, 2>{});
            case 4:
                return with_stride(std::integral_constant<int, 4>{});
            default:
                return with_stride(std::integral_constant<int, 0>{});
        }
    }

  private:
    static std::uint64_t first(Index n) { return (std::uint64_t{1} << n) - 1; }

    // Lanes [low, high), `stride` bits apart.
    std::uint64_t spaced(Index low, Index high) const {
        if (low == high) return 0;
        const Index apart = std::max<Index>(stride, 1);
        const std::uint64_t below = first(low * apart);
        return lane_bits & ~below & (high == W ? ~std::uint64_t{0} : first(high * apart));
    }

    static std::uint64_t all_lanes(Index apart) {
        std::uint64_t bits = 0;
        for (Index l = 0; l < W; ++l) bits |= std::uint64_t{1} << (l * apart);
        return bits;
    }

    // Of numbers below 2^31, which is faster than of 64 bits.
    static Index divide(Index a, Index by) { return Index(std::uint32_t(a) / std::uint32_t(by)); }

    template <int S>
    void copy(const Piece* begin, const Piece* end, const T* plane, T* to, Index limit) const {
        const Piece* whole = end;
        if (limit > 0)
            while (whole != begin && whole[-1].to + W > limit) --whole;
        for (; begin != whole; ++begin) store(to + begin->to, read<S>(*begin, plane + begin->from));
        for (; begin != end; ++begin)
            LaneMask<T>::first(std::min(W, limit - begin->to))
                .store(to + begin->to, read<S>(*begin, plane + begin->from));
    }

    template <int S>
    Vec<T> read(const Piece& piece, const T* from) const {
        if constexpr (S > 0) {
            return load_strided<T, S>(from, piece.bits);
        } else {
            Vec<T> x{};
            for (int l = 0; l < W; ++l)
                if (piece.bits >> l & 1) x[l] = from[l * p.stride_w];
            return x;
        }
    }

    Conv2d p;
    Index stride;
    std::uint64_t lane_bits;
    bool flat;
};

}  // namespace ai3
