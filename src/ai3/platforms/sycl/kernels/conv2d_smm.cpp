// Scalar-matrix multiplication with zero packing: the output is a sum of IC * KH * KW shifted
// sub-matrices of the input, each multiplied by one scalar weight. The input is read where it lies,
// lanes in the padding are masked; the group keeps the scalars of `chunk` terms for its channels.
//
// Ofir, Ben-Artzi, "SMM-Conv: Scalar Matrix Multiplication with Zero Packing for Accelerated
// Convolution", CVPRW'22, arXiv 2411.15659.
//
// Weights: (OC, IC / groups, KH, KW), as they are.
#include "conv2d.hpp"

using namespace ai3;

namespace {

void stage(const Conv2d& p, int chunk, const float* weight, float* scalars) {
    const OutputTile tile(p);
    const Place& at = tile.at;
    const int terms = p.group_ic() * p.taps(), first = uniform(chunk * p.chunk);
    float* own = scalars + uniform(at.tile) * p.chunk * CHANNELS;
    for (int c = uniform(at.row); c < CHANNELS; c += at.rows) {
        const int oc = uniform(tile.oc_tile) * CHANNELS + c;
        const float* row = weight + (long(tile.g) * p.group_oc() + oc) * terms;
        for (int k = at.lane; k < p.chunk; k += LANES)
            own[k * CHANNELS + c] = oc < p.group_oc() && first + k < terms ? row[first + k] : 0.0f;
    }
}

// The pixel that a lane reads in a row of the kernel's, 0 outside of the image.
inline float load(const Conv2d& p, const float* plane, int row, int column, int lane, bool term) {
    const int i = source(row, p.h.in, p.mode);
    const bool valid = term && inside(i, p.h.in);
    const float* from = plane + (valid ? long(i) * p.w.in : 0);
    const int j = column + lane * p.w.stride;
    if (p.mode != zeros) return valid ? from[source(j, p.w.in, p.mode)] : 0.0f;
    if (p.w.stride > 1) return valid && inside(j, p.w.in) ? from[j] : 0.0f;
    return valid && inside(column + lane, p.w.in) ? from[column + lane] : 0.0f;
}

void multiply(const Conv2d& p, int chunk, const float* scalars, const float* x, Sums& sums) {
    const OutputTile tile(p);
    const long pixels = long(p.h.in) * p.w.in;
    const float* image = x + (long(tile.n) * p.IC + tile.g * p.group_ic()) * pixels;
    const int row = uniform(tile.oh + tile.at.row * VECTORS) * p.h.stride - p.h.pad;
    const int column = tile.ow * p.w.stride - p.w.pad, start = uniform(chunk * p.chunk);
    int c = start / p.taps(), kh = start % p.taps() / p.w.kernel, kw = start % p.w.kernel;
    const float* own = scalars + uniform(tile.at.tile) * p.chunk * CHANNELS;
    int k = 0;
    do {
        const bool term = c < p.group_ic();
        const float* plane = image + (term ? c * pixels : 0);
        float values[VECTORS];
#pragma unroll
        for (int v = 0; v < VECTORS; ++v)
            values[v] = load(p, plane, row + v * p.h.stride + kh * p.h.dilation,
                             column + kw * p.w.dilation, tile.at.lane, term);
        sums.add(own + k * CHANNELS, values);
        const bool row_ends = ++kw == p.w.kernel;
        kw = row_ends ? 0 : kw;
        kh += row_ends;
        const bool plane_ends = kh == p.h.kernel;
        kh = plane_ends ? 0 : kh;
        c += plane_ends;
    } while (++k < p.chunk);
}

}  // namespace

AI3_KERNEL(3)
conv2d_smm(const float* x, const float* weight, const float* bias, float* y, Conv2d p) {
    exp::work_group_static<float[LOCAL_FLOATS]> memory;
    float* scalars = &memory[0];
    Sums sums;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        stage(p, chunk, weight, scalars);
        barrier();
        multiply(p, chunk, scalars, x, sums);
        barrier();
    }
    OutputTile(p).write(p, sums, bias, y);
}
