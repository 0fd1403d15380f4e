// max(x, 0), and NaN where x is. A work-item has PER elements, LANES of which lie side by side.
#include "tile.hpp"

using namespace ai3;

AI3_KERNEL(1)
relu_direct(const float* x, float* y, long elements) {
    constexpr int PER = 8;
    const auto item = here::get_nd_item<1>();
    const long size = item.get_local_range(0),
               first = item.get_group(0) * size * PER + item.get_local_id(0);
#pragma unroll
    for (int i = 0; i < PER; ++i) {
        const long own = first + i * size;
        if (own < elements) y[own] = x[own] < 0.0f ? 0.0f : x[own];
    }
}
