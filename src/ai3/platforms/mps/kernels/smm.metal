// Scalar-matrix multiplication: the output is a sum of KH * KW * IC shifted sub-matrices of the
// input, each multiplied by one scalar weight. A threadgroup holds a tile of 256 pixels of some
// output channels in registers; its patch of the input lies in the group's memory, the scalars are
// the same for all threads and come straight from the weights.
//
// Ofir, Ben-Artzi, "SMM-Conv: Scalar Matrix Multiplication with Zero Packing for Accelerated
// Convolution", CVPRW'22, arXiv 2411.15659.

constant constexpr int SMM_THREADS = 64;
constant constexpr int SMM_PIXELS = 256;
constant constexpr int SMM_PATCH = 2048;

// Grid: tiles of an image, groups * blocks of `Channels` of a group's output channels, N.
template <int Channels>
inline void smm_of(device const SCALAR *x, device const SCALAR *w, device const SCALAR *bias,
                   device const SCALAR *addend, device SCALAR *y, constant Convolution &p,
                   threadgroup SCALAR *patch, uint3 group, uint t) {
    const int ic = p.IC / p.groups, oc = p.OC / p.groups;
    const int blocks = (oc + Channels - 1) / Channels;
    const int g = int(group.y) / blocks, first = int(group.y) % blocks * Channels;
    const int n = int(group.z);
    const int width = 1 << p.tile_log, height = SMM_PIXELS >> p.tile_log;
    const int across = (p.OW + width - 1) / width;
    const int oh0 = int(group.x) / across * height, ow0 = int(group.x) % across * width;
    const int plane = p.patch_h * p.patch_w;

    int at[4];
    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int pixel = int(t) + SMM_THREADS * j;
        at[j] = (pixel >> p.tile_log) * p.at_h * p.patch_w + (pixel & (width - 1)) * p.at_w;
    }

    float sums[Channels][4];
    UNROLL
    for (int i = 0; i < Channels; ++i) {
        UNROLL
        for (int j = 0; j < 4; ++j) sums[i][j] = 0;
    }
    for (int kh0 = 0; kh0 < p.KH; kh0 += p.taps_h) {
        const int rows = min(p.taps_h, p.KH - kh0);
        for (int kw0 = 0; kw0 < p.KW; kw0 += p.taps_w) {
            const int columns = min(p.taps_w, p.KW - kw0);
            for (int c0 = 0; c0 < ic; c0 += p.channels) {
                const int channels = min(p.channels, ic - c0);
                bring_patch(patch, x + n * p.x_n, g * ic + c0, channels,
                            oh0 * p.stride_h - p.pad_top + kh0 * p.dilation_h,
                            ow0 * p.stride_w - p.pad_left + kw0 * p.dilation_w, t, SMM_THREADS, p);
                threadgroup_barrier(mem_flags::mem_threadgroup);
                for (int kh = 0; kh < rows; ++kh) {
                    for (int kw = 0; kw < columns; ++kw) {
                        int from = kh * p.dilation_h * p.patch_w + kw * p.dilation_w;
                        const int tap = (g * p.KH + kh0 + kh) * p.KW + kw0 + kw;
                        device const SCALAR *scalars = w + (tap * ic + c0) * oc + first;
                        for (int c = 0; c < channels; ++c, from += plane, scalars += oc) {
                            float pixels[4];
                            UNROLL
                            for (int j = 0; j < 4; ++j) pixels[j] = float(patch[from + at[j]]);
                            UNROLL
                            for (int i = 0; i < Channels; ++i) {
                                const float scalar = first + i < oc ? float(scalars[i]) : 0.0f;
                                UNROLL
                                for (int j = 0; j < 4; ++j)
                                    sums[i][j] = fma(scalar, pixels[j], sums[i][j]);
                            }
                        }
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
    }

    UNROLL
    for (int j = 0; j < 4; ++j) {
        const int pixel = int(t) + SMM_THREADS * j;
        const int oh = oh0 + (pixel >> p.tile_log), ow = ow0 + (pixel & (width - 1));
        if (oh >= p.OH || ow >= p.OW) continue;
        UNROLL
        for (int i = 0; i < Channels; ++i) {
            if (first + i < oc)
                finish(sums[i][j], n, g * oc + first + i, oh, ow, bias, addend, y, p);
        }
    }
}

kernel void smm(device const SCALAR *x [[buffer(0)]], device const SCALAR *w [[buffer(1)]],
                device const SCALAR *bias [[buffer(2)]], device const SCALAR *addend [[buffer(3)]],
                device SCALAR *y [[buffer(4)]], constant Convolution &p [[buffer(5)]],
                uint3 group [[threadgroup_position_in_grid]],
                uint t [[thread_index_in_threadgroup]]) {
    SHARED SCALAR patch[SMM_PATCH];
    smm_of<8>(x, w, bias, addend, y, p, patch, group, t);
}

// For groups of one or two output channels, depthwise convolutions among them.
kernel void smm_narrow(device const SCALAR *x [[buffer(0)]], device const SCALAR *w [[buffer(1)]],
                       device const SCALAR *bias [[buffer(2)]],
                       device const SCALAR *addend [[buffer(3)]], device SCALAR *y [[buffer(4)]],
                       constant Convolution &p [[buffer(5)]],
                       uint3 group [[threadgroup_position_in_grid]],
                       uint t [[thread_index_in_threadgroup]]) {
    SHARED SCALAR patch[SMM_PATCH];
    smm_of<1>(x, w, bias, addend, y, p, patch, group, t);
}
