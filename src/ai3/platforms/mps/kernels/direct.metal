// Direct convolution: a threadgroup holds 64 output channels of a tile of 64 pixels in registers.
// Each step brings the patch of the image that the tile's kernels reach, of some channels, and the
// weights of these into the group's memory, where every pixel serves many taps and every weight
// many pixels.
//
// Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct Convolutions", ICML'18,
// arXiv 1809.10170, with a group's memory for their registers' panels.

// The pixels of a patch, all channels of a step; and its weights, taps times channels.
constant constexpr int PATCH = 1536;
constant constexpr int STEP = 24;

// The part of x that a step reads: `channels` planes of patch_h x patch_w, from the channel
// `channel` on and the row and column that `top` and `left` are, in x with its padding.
inline void bring_patch(threadgroup SCALAR *patch, device const SCALAR *x, int channel,
                        int channels, int top, int left, uint t, int threads,
                        constant Convolution &p) {
    const int plane = p.patch_h * p.patch_w;
    for (int e = int(t); e < channels * plane; e += threads) {
        const int c = e / plane, row = e % plane / p.patch_w, column = e % p.patch_w;
        const int h = source(top + row * p.step_h, p.IH, p.padding_mode);
        const int w = source(left + column * p.step_w, p.IW, p.padding_mode);
        patch[e] = h < 0 || w < 0 ? SCALAR(0)
                                  : x[(channel + c) * p.x_c + h * p.x_h + w * p.x_w];
    }
}

// Grid: tiles of an image, tiles of a group's output channels, groups * N.
kernel void direct(device const SCALAR *x [[buffer(0)]], device const SCALAR *w [[buffer(1)]],
                   device const SCALAR *bias [[buffer(2)]],
                   device const SCALAR *addend [[buffer(3)]], device SCALAR *y [[buffer(4)]],
                   constant Convolution &p [[buffer(5)]],
                   uint3 group [[threadgroup_position_in_grid]],
                   uint t [[thread_index_in_threadgroup]]) {
    SHARED SCALAR patch[PATCH];
    SHARED SCALAR weights[STEP][ROWS];
    const int ic = p.IC / p.groups, oc = p.OC / p.groups;
    const int g = int(group.z) % p.groups, n = int(group.z) / p.groups;
    const int first = int(group.y) * ROWS;
    const int width = 1 << p.tile_log, height = COLUMNS >> p.tile_log;
    const int across = (p.OW + width - 1) / width;
    const int oh0 = int(group.x) / across * height, ow0 = int(group.x) % across * width;
    const int plane = p.patch_h * p.patch_w;

    int at[4];
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int pixel = int(t) % 16 + 16 * j;
        at[j] = (pixel >> p.tile_log) * p.at_h * p.patch_w + (pixel & (width - 1)) * p.at_w;
    }

    float sums[8][4];
    clear(sums);
    for (int kh0 = 0; kh0 < p.KH; kh0 += p.taps_h) {
        const int rows = min(p.taps_h, p.KH - kh0);
        for (int kw0 = 0; kw0 < p.KW; kw0 += p.taps_w) {
            const int columns = min(p.taps_w, p.KW - kw0);
            for (int c0 = 0; c0 < ic; c0 += p.channels) {
                const int channels = min(p.channels, ic - c0);
                bring_patch(patch, x + n * p.x_n, g * ic + c0, channels,
                            oh0 * p.stride_h - p.pad_top + kh0 * p.dilation_h,
                            ow0 * p.stride_w - p.pad_left + kw0 * p.dilation_w, t, THREADS, p);
                for (int e = int(t); e < rows * columns * channels * ROWS; e += THREADS) {
                    const int o = first + e % ROWS, c = e / ROWS % channels;
                    const int tap = e / (ROWS * channels);
                    const int kh = kh0 + tap / columns, kw = kw0 + tap % columns;
                    const int k = ((g * p.KH + kh) * p.KW + kw) * ic + c0 + c;
                    weights[e / ROWS][e % ROWS] = o < oc ? w[k * oc + o] : SCALAR(0);
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                int k = 0;
                for (int kh = 0; kh < rows; ++kh) {
                    for (int kw = 0; kw < columns; ++kw) {
                        int from = kh * p.dilation_h * p.patch_w + kw * p.dilation_w;
                        for (int c = 0; c < channels; ++c, ++k, from += plane) {
                            float left[8], right[4];
                            UNROLL
                            for (int i = 0; i < 8; ++i)
                                left[i] = float(weights[k][first_of_rows(t) + i]);
                            UNROLL
                            for (int j = 0; j < 4; ++j) right[j] = float(patch[from + at[j]]);
                            UNROLL
                            for (int i = 0; i < 8; ++i) {
                                UNROLL
                                for (int j = 0; j < 4; ++j)
                                    sums[i][j] = fma(left[i], right[j], sums[i][j]);
                            }
                        }
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
    }

    const int row = first + first_of_rows(t);
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int pixel = int(t) % 16 + 16 * j;
        const int oh = oh0 + (pixel >> p.tile_log), ow = ow0 + (pixel & (width - 1));
        if (oh >= p.OH || ow >= p.OW) continue;
        UNROLL
        for (int i = 0; i < 8; ++i) {
            if (row + i < oc) finish(sums[i][j], n, g * oc + row + i, oh, ow, bias, addend, y, p);
        }
    }
}
