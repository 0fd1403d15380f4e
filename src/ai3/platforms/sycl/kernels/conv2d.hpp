// The problem of a convolution, as kernels get it: N IC IH IW OC KH KW OH OW of the field, by axis.
#pragma once

#include "tile.hpp"

namespace ai3 {

enum PaddingMode { zeros, reflect, replicate, circular };

// An axis of the images. The rest says how `conv2d_direct` stages it, see there.
struct Axis {
    int in, out, kernel, stride, dilation, pad;
    int taps, step, phases, size;
};

struct Conv2d {
    int IC, OC, groups, mode;
    int chunk, chunks;          // terms staged at a time, and how often that is
    int rows, columns, vector;  // see OutputTile
    Axis h, w;

    int group_ic() const { return IC / groups; }
    int group_oc() const { return OC / groups; }
    int oc_tiles() const { return ceil_div(group_oc(), CHANNELS); }
    int taps() const { return h.kernel * w.kernel; }
};

// The pixel that stands at index i of an axis of n; outside of [0, n) where the padding is zeros.
inline int source(int i, int n, int mode) {
    if (mode == zeros) return i;
    if (mode == reflect) return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
    if (mode == circular) return i < 0 ? i + n : i >= n ? i - n : i;
    return sycl::clamp(i, 0, n - 1);
}

inline bool inside(int i, int n) { return i >= 0 && i < n; }

// A group's tile of the output: rows x columns pixels of an image, CHANNELS * tiles output channels
// of a group of the convolution. The pixels are counted with `w.size` to a row, of which the first
// `columns` exist; vectors of LANES of them begin at the multiples of `vector`.
struct OutputTile {
    Place at;
    int n, g, oc_tile, oh, ow;

    explicit OutputTile(const Conv2d& p) {
        const int across = ceil_div(p.w.out, p.columns);
        const int deep = ceil_div(p.oc_tiles(), at.tiles);
        n = group(0);
        g = group(1) / deep;
        oc_tile = group(1) % deep * at.tiles + at.tile;
        oh = group(2) / across * p.rows;
        ow = group(2) % across * p.columns;
    }

    void write(const Conv2d& p, const Sums& sums, const float* bias, float* y) const {
        if (oc_tile >= p.oc_tiles()) return;
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
            const int first = (at.row * VECTORS + v) * p.vector;
            const int row = first / p.w.size, column = first % p.w.size + at.lane;
            // A vector within a row is known to be stored as one.
            if (p.rows == 1 || p.vector == p.w.size)
                write(p, sums, v, row, column, bias, y);
            else
                write(p, sums, v, row + column / p.w.size, column % p.w.size, bias, y);
        }
    }

  private:
    void write(const Conv2d& p, const Sums& sums, int v, int row, int column, const float* bias,
               float* y) const {
        if (row >= p.rows || column >= p.columns) return;
        if (oh + row >= p.h.out || ow + column >= p.w.out) return;
        const long plane = long(p.h.out) * p.w.out, pixel = long(oh + row) * p.w.out + ow + column;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            const int oc = oc_tile * CHANNELS + c;
            if (oc >= p.group_oc()) break;
            const int channel = g * p.group_oc() + oc;
            y[(long(n) * p.OC + channel) * plane + pixel] =
                sums.at[c][v] + (bias ? bias[channel] : 0.0f);
        }
    }
};

}  // namespace ai3
