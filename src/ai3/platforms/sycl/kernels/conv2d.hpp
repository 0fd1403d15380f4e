// The problem of a convolution, as kernels get it: N IC IH IW OC KH KW OH OW of the field, by axis.
#pragma once

#include "tile.hpp"

namespace ai3 {

enum PaddingMode { zeros, reflect, replicate, circular };

// An axis of the images. The rest says how `conv2d_direct` stages it, see there.
struct Axis {
    int in, out, kernel, stride, dilation, pad;
    int taps, step, phases, pitch, tile_stride;
};

struct Conv2d {
    int IC, OC, groups, mode;
    int chunk, chunks;  // terms staged at a time, and how often that is
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

// A group's tile of the output: VECTORS * rows x LANES pixels of an image, CHANNELS * tiles output
// channels of a group of the convolution.
struct OutputTile {
    Place at;
    int n, g, oc_tile, oh, ow;

    explicit OutputTile(const Conv2d& p) {
        const int across = ceil_div(p.w.out, LANES);
        const int deep = ceil_div(p.oc_tiles(), at.tiles);
        n = group(0);
        g = group(1) / deep;
        oc_tile = group(1) % deep * at.tiles + at.tile;
        oh = (group(2) / across * at.rows) * VECTORS;
        ow = group(2) % across * LANES;
    }

    int row() const { return oh + at.row * VECTORS; }

    void write(const Conv2d& p, const Sums& sums, const float* bias, float* y) const {
        const int column = ow + at.lane;
        if (oc_tile >= p.oc_tiles() || column >= p.w.out) return;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            const int oc = oc_tile * CHANNELS + c;
            if (oc >= p.group_oc()) break;
            const int channel = g * p.group_oc() + oc;
            float* plane = y + (long(n) * p.OC + channel) * p.h.out * p.w.out;
            const float b = bias ? bias[channel] : 0.0f;
#pragma unroll
            for (int v = 0; v < VECTORS; ++v)
                if (row() + v < p.h.out)
                    plane[long(row() + v) * p.w.out + column] = sums.at[c][v] + b;
        }
    }
};

}  // namespace ai3
