// Implicit matrix multiplication: weights (OC x IC * KH * KW) times columns of the input (IC * KH *
// KW x pixels of all images), of which the group makes a tile at a time.
//
// Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", arXiv 1410.0759, section 3.
//
// Weights: [groups][tiles of OC][chunks * chunk of IC * KH * KW][CHANNELS], zeros where there is
// none. Groups are counted by (OC, pixels); `images` is N.
#include "conv2d.hpp"

using namespace ai3;

namespace {

// A group's tile of the output: VECTORS * rows * LANES pixels, CHANNELS * tiles channels.
struct Columns {
    Place at;
    int g, oc_tile, width;
    long pixel;  // the work-item's first; the others are LANES apart

    explicit Columns(const Conv2d& p) {
        const int deep = ceil_div(p.oc_tiles(), at.tiles);
        g = group(1) / deep;
        oc_tile = group(1) % deep * at.tiles + at.tile;
        width = at.rows * VECTORS * LANES;
        pixel = long(group(2)) * width + at.row * VECTORS * LANES + at.lane;
    }
};

void stage(const Conv2d& p, int images, int chunk, const float* x, float* columns) {
    const Columns tile(p);
    const int terms = p.group_ic() * p.taps(), plane = p.h.out * p.w.out;
    const int first = uniform(chunk * p.chunk);
    for (int v = 0; v < VECTORS; ++v) {
        const long pixel = tile.pixel + v * LANES;
        const bool exists = pixel < long(images) * plane;
        const long n = exists ? pixel / plane : 0;
        const int rest = exists ? int(pixel - n * plane) : 0, oh = rest / p.w.out;
        const int ih0 = oh * p.h.stride - p.h.pad;
        const int iw0 = (rest - oh * p.w.out) * p.w.stride - p.w.pad;
        const float* image = x + (n * p.IC + tile.g * p.group_ic()) * p.h.in * p.w.in;
        float* to = columns + (uniform(tile.at.row) * VECTORS + v) * LANES + tile.at.lane;
        for (int k = uniform(tile.at.tile); k < p.chunk; k += tile.at.tiles) {
            const int term = sycl::min(first + k, terms - 1), c = term / p.taps();
            const int tap = term - c * p.taps(), kh = tap / p.w.kernel, kw = tap - kh * p.w.kernel;
            const int i = source(ih0 + kh * p.h.dilation, p.h.in, p.mode);
            const int j = source(iw0 + kw * p.w.dilation, p.w.in, p.mode);
            const bool valid = exists && inside(i, p.h.in) && inside(j, p.w.in);
            to[k * tile.width] = valid ? image[(long(c) * p.h.in + i) * p.w.in + j] : 0.0f;
        }
    }
}

void multiply(const Conv2d& p, int chunk, const float* weight, const float* columns, Sums& sums) {
    const Columns tile(p);
    const int oc_tile = uniform(tile.g * p.oc_tiles() + sycl::min(tile.oc_tile, p.oc_tiles() - 1));
    const float* scalars =
        weight + (long(oc_tile) * p.chunks + uniform(chunk)) * p.chunk * CHANNELS;
    const float* own = columns + uniform(tile.at.row) * VECTORS * LANES;
    int k = 0;
    do {
        sums.add(scalars + k * CHANNELS, own + k * tile.width + tile.at.lane, LANES);
    } while (++k < p.chunk);
}

}  // namespace

AI3_KERNEL(3)
conv2d_implicit_gemm(const float* x, const float* weight, const float* bias, float* y, Conv2d p,
                     int images) {
    exp::work_group_static<float[LOCAL_FLOATS]> memory;
    float* columns = &memory[0];
    Sums sums;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        stage(p, images, chunk, x, columns);
        barrier();
        multiply(p, chunk, weight, columns, sums);
        barrier();
    }
    const Columns tile(p);
    const int plane = p.h.out * p.w.out;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const long pixel = tile.pixel + v * LANES, n = pixel / plane;
        if (n >= images) continue;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            const int oc = tile.oc_tile * CHANNELS + c;
            if (oc >= p.group_oc()) break;
            const int channel = tile.g * p.group_oc() + oc;
            const float b = bias ? bias[channel] : 0.0f;
            y[(n * p.OC + channel) * plane + (pixel - n * plane)] = sums.at[c][v] + b;
        }
    }
}
