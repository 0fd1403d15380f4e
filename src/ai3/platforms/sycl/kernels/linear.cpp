// y (rows, OC) = x (rows, IC) times the transposed weight (OC, IC), plus bias. The group stages
// CHANNELS * tiles rows of x, `chunk` columns at a time, transposed; neighbouring lanes have
// neighbouring output channels.
//
// Weights: [chunks * chunk of IC][pitch of OC], zeros where there is none.
#include "tile.hpp"

using namespace ai3;

struct Linear {
    int rows, IC, OC, chunk, chunks, pitch;
};

namespace {

void stage(const Linear& p, int chunk, const float* x, float* staged) {
    const Place at;
    const int height = at.tiles * CHANNELS, k0 = uniform(chunk * p.chunk);
    const long first = long(group(1)) * height;
    for (int t = 0; t < CHANNELS; ++t) {
        const int r = uniform(at.tile) * CHANNELS + t;
        const bool exists = first + r < p.rows;
        const float* row = x + (exists ? first + r : 0) * p.IC + k0;
        for (int k = uniform(at.row) * LANES + at.lane; k < p.chunk; k += at.rows * LANES)
            staged[k * height + r] = exists && k0 + k < p.IC ? row[k] : 0.0f;
    }
}

int first_column(const Place& at) {
    return (group(2) * at.rows + uniform(at.row)) * VECTORS * LANES;
}

void multiply(const Linear& p, int chunk, const float* weight, const float* staged, Sums& sums) {
    const Place at;
    const int height = at.tiles * CHANNELS;
    const float* values = weight + long(uniform(chunk)) * p.chunk * p.pitch + first_column(at);
    const float* scalars = staged + uniform(at.tile) * CHANNELS;
    int k = 0;
    do {
        sums.add(scalars + k * height, values + long(k) * p.pitch + at.lane, LANES);
    } while (++k < p.chunk);
}

}  // namespace

AI3_KERNEL(3)
linear_direct(const float* x, const float* weight, const float* bias, float* y, Linear p) {
    exp::work_group_static<float[LOCAL_FLOATS]> memory;
    float* staged = &memory[0];
    Sums sums;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        stage(p, chunk, x, staged);
        barrier();
        multiply(p, chunk, weight, staged, sums);
        barrier();
    }
    const Place at;
    const long first = (long(group(1)) * at.tiles + at.tile) * CHANNELS;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int oc = first_column(at) + v * LANES + at.lane;
        if (oc >= p.OC) continue;
        const float b = bias ? bias[oc] : 0.0f;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            if (first + c >= p.rows) break;
            y[(first + c) * p.OC + oc] = sums.at[c][v] + b;
        }
    }
}
