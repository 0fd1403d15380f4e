// Direct convolution. The group stages a patch of the input, padded, for `chunk` channels and,
// where that is too large, for single rows or columns of the kernel (`taps` of an axis at a time,
// every `step`-th pixel). Each work-item multiplies it with the weights of its channels; for the
// terms of a stage, `shifts` tells where in the patch their first pixel is.
//
// Rows and columns lie in the patch by phases, those that are `phases` = stride apart side by side:
// [chunk][phases of rows][phases of columns][rows of a phase][columns of a phase]. So neighbouring
// pixels of the output read neighbouring elements, those of the next row `w.size` further on; what
// a vector reads beyond the end of a row belongs to none.
//
// Weights: [groups][tiles of OC][stages][terms of a stage][CHANNELS], zeros where there is none.
#include "conv2d.hpp"

using namespace ai3;

namespace {

// Where the kernel is in a patch's order.
struct Stage {
    int channel, kh, kw;

    Stage(int chunk, int kh, int kw) : channel(uniform(chunk)), kh(uniform(kh)), kw(uniform(kw)) {}
};

void stage(const Conv2d& p, const Stage& now, const float* x, float* patch) {
    const OutputTile tile(p);
    const Place& at = tile.at;
    const int phase = p.h.size * p.w.size;
    const int ih0 = tile.oh * p.h.stride + now.kh * p.h.dilation - p.h.pad;
    const int iw0 = tile.ow * p.w.stride + now.kw * p.w.dilation - p.w.pad;
    for (int c = uniform(at.tile); c < p.chunk; c += at.tiles)
        for (int row = uniform(at.row); row < p.h.size * p.h.phases; row += at.rows) {
            const int ic = now.channel + c, ih = source(ih0 + row * p.h.step, p.h.in, p.mode);
            const bool valid = ic < p.group_ic() && inside(ih, p.h.in);
            const long plane = long(tile.n) * p.IC + tile.g * p.group_ic() + (valid ? ic : 0);
            const float* from = x + (plane * p.h.in + (valid ? ih : 0)) * p.w.in;
            float* to = patch + (c * p.h.phases + row % p.h.phases) * p.w.phases * phase +
                        row / p.h.phases * p.w.size;
            if (p.mode == zeros && p.w.phases * p.w.step == 1) {
                for (int q = at.lane; q < p.w.size; q += LANES)
                    to[q] = valid && inside(iw0 + q, p.w.in) ? from[iw0 + q] : 0.0f;
                continue;
            }
            for (int i = 0; i < p.w.phases; ++i)
                for (int q = at.lane; q < p.w.size; q += LANES) {
                    const int iw = source(iw0 + (q * p.w.phases + i) * p.w.step, p.w.in, p.mode);
                    to[i * phase + q] = valid && inside(iw, p.w.in) ? from[iw] : 0.0f;
                }
        }
}

void multiply(const Conv2d& p, int stage, const float* weight, const int* shifts,
              const float* patch, Sums& sums) {
    const OutputTile tile(p);
    const int terms = p.chunk * p.h.taps * p.w.taps;
    const int oc_tile = uniform(tile.g * p.oc_tiles() + sycl::min(tile.oc_tile, p.oc_tiles() - 1));
    const int stages = p.chunks * (p.h.kernel / p.h.taps) * (p.w.kernel / p.w.taps);
    const float* scalars = weight + (long(oc_tile) * stages + uniform(stage)) * terms * CHANNELS;
    const float* own = patch + uniform(tile.at.row) * VECTORS * p.vector;
    int i = 0;
    do {
        sums.add(scalars, own + shifts[i] + tile.at.lane, p.vector);
        scalars += CHANNELS;
    } while (++i < terms);
}

}  // namespace

AI3_KERNEL(3)
conv2d_direct(const float* x, const float* weight, const float* bias, const int* shifts, float* y,
              Conv2d p) {
    exp::work_group_static<float[LOCAL_FLOATS]> memory;
    float* patch = &memory[0];
    Sums sums;
    int number = 0;
    for (int chunk = 0; chunk < p.chunks; ++chunk)
        for (int kh = 0; kh < p.h.kernel; kh += p.h.taps)
            for (int kw = 0; kw < p.w.kernel; kw += p.w.taps) {
                stage(p, Stage(chunk * p.chunk, kh, kw), x, patch);
                barrier();
                multiply(p, number++, weight, shifts, patch, sums);
                barrier();
            }
    OutputTile(p).write(p, sums, bias, y);
}
