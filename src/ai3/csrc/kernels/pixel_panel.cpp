#include "kernels/pixel_panel.hpp"

namespace ai3 {
namespace {

template <typename T, int C, int V>
void multiply_tile(const PanelProduct<T>& p) {
    constexpr int W = lanes<T>;
    const auto tail = LaneMask<T>::first(std::min<Index>(p.pixels - (V - 1) * W, W));
    const auto place = [&](int c, int v) { return p.out + c * p.plane + v * W; };
    const auto live = [&](int v) { return v < V - 1 ? LaneMask<T>(LaneMask<T>::all) : tail; };
    Vec<T> acc[C][V];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v)
            acc[c][v] = p.bias       ? broadcast(p.bias[c])
                        : c < p.rows ? v < V - 1 ? load(place(c, v)) : tail.load(place(c, v))
                                     : Vec<T>{};
    const auto multiply = [&](auto load_last) __attribute__((always_inline)) {
        const T* a = p.a;
        const T* b = p.b;
        for (Index k = 0; k < p.K; ++k, a += C, b += p.pitch) {
            Vec<T> x[V];
#pragma GCC unroll 3
            for (int v = 0; v < V - 1; ++v) x[v] = load(b + v * W);
            x[V - 1] = load_last(b + (V - 1) * W);
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const Vec<T> scalar = broadcast(a[c]);
#pragma GCC unroll 3
                for (int v = 0; v < V; ++v) acc[c][v] += scalar * x[v];
            }
        }
    };
    if (p.pixels == V * W)
        multiply([](const T* at) { return load(at); });
    else
        multiply([&](const T* at) { return tail.load(at); });
    const bool streamed = p.streamed && p.pixels == V * W && !p.epilogue;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
        if (c >= p.rows) break;
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) {
            if (streamed)
                stream(place(c, v), acc[c][v]);
            else
                live(v).store(place(c, v), acc[c][v]);
        }
    }
    if (!p.epilogue) return;
    for (int c = 0; c < std::min<Index>(C, p.rows); ++c)
        for (int v = 0; v < V; ++v) apply(*p.epilogue, place(c, v), live(v));
}

template <typename T, int C>
void multiply_rows(const PanelProduct<T>& p) {
    if (p.pixels > 2 * lanes<T>)
        multiply_tile<T, C, 3>(p);
    else if (p.pixels > lanes<T>)
        multiply_tile<T, C, 2>(p);
    else
        multiply_tile<T, C, 1>(p);
}

}  // namespace

template <typename T>
void multiply_panel(const PanelProduct<T>& p) {
    switch (tile_rows(p.rows)) {
        case 1:
            return multiply_rows<T, 1>(p);
        case 2:
            return multiply_rows<T, 2>(p);
        case 4:
            return multiply_rows<T, 4>(p);
        default:
            return multiply_rows<T, panel_rows>(p);
    }
}

template void multiply_panel(const PanelProduct<float>&);
template void multiply_panel(const PanelProduct<double>&);

}  // namespace ai3
