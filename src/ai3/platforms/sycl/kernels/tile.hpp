// What the kernels share. A work-group is LANES x rows x tiles work-items, whose last index runs
// over neighbouring elements in memory: a compiler for CPUs makes vectors of these. Each adds up a
// tile of CHANNELS x VECTORS sums in registers.
//
// Between two barriers every loop has bounds that depend on the kernel's arguments alone, and what
// is carried over a barrier is made `uniform`: otherwise a compiler for CPUs has to take it for
// another value in each lane, and masks all that depends on it.
#pragma once

#include <sycl/sycl.hpp>

namespace ai3 {

namespace exp = sycl::ext::oneapi::experimental;
namespace here = sycl::ext::oneapi::this_work_item;

#define AI3_KERNEL(dimensions)                                                            \
    extern "C" SYCL_EXT_ONEAPI_FUNCTION_PROPERTY((ai3::exp::nd_range_kernel<dimensions>)) \
        SYCL_EXT_ONEAPI_FUNCTION_PROPERTY((ai3::exp::sub_group_size<ai3::LANES>)) void

constexpr int LANES = 16, CHANNELS = 8, VECTORS = 2;
constexpr int LOCAL_FLOATS = 8192;

inline int uniform(int value) { return sycl::group_broadcast(here::get_sub_group(), value); }

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Where a work-item is: its lane, and row and tile in the group.
struct Place {
    int lane, row, tile, rows, tiles;

    Place() {
        const auto item = here::get_nd_item<3>();
        lane = item.get_local_id(2);
        row = item.get_local_id(1), tile = item.get_local_id(0);
        rows = item.get_local_range(1), tiles = item.get_local_range(0);
    }
};

inline int group(int dimension) { return here::get_nd_item<3>().get_group(dimension); }

inline void barrier() { sycl::group_barrier(here::get_nd_item<3>().get_group()); }

struct Sums {
    float at[CHANNELS][VECTORS] = {};

    // at[c][v] += scalars[c] * values[v * pitch]
    void add(const float* scalars, const float* values, int pitch) {
        float loaded[VECTORS];
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) loaded[v] = values[v * pitch];
        add(scalars, loaded);
    }

    void add(const float* scalars, const float (&values)[VECTORS]) {
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
            for (int v = 0; v < VECTORS; ++v) at[c][v] = sycl::fma(scalars[c], values[v], at[c][v]);
    }
};

}  // namespace ai3
