// What the gemm family is estimated to take. The constants are fitted to measurements on Zen 4 over
// the layers of seven networks, on one thread and on two.
#pragma once

#include "ops/conv2d/columns.hpp"
#include "ops/conv2d/gemm_plan.hpp"

namespace ai3 {

// Cycles, a multiply-add of a vector each. Threads share the multiplication and the packing, not
// the memory. `list_cycles`: what a piece costs to be found, once for all channels.
template <typename T>
double gemm_cost(const Conv2d& p, double list_cycles) {
    constexpr double piece_cycles = 5.5, call_cycles = 25, image_byte = 0.03, weight_byte = 0.058;
    const GemmBlocks<T> b(p);
    const double N = double(p.N), vectors = std::ceil(double(b.P) / lanes<T>);
    // Every part of a panel's output channels packs it anew.
    const double repeats = N * double(p.groups == 1 ? b.parts : 1);
    const double row_pieces = b.in_place ? 0 : double(b.taps * Pieces<T>(p).most(b.P));
    const double pieces = repeats * row_pieces * (piece_cycles * double(p.IC) + list_cycles);
    const double outputs = N * double(p.groups * b.padded_oc);
    // Rows in place that begin anywhere in a line; one tile for all channels keeps one thread busy.
    const bool crosses = b.in_place && b.P % lanes<T> != 0;
    const double loads = crosses ? 7.0 / lanes<T> * N * double(p.IC * b.P) : 0;
    double steps, bytes, threads = p.threads;
    if (b.by_channels) {
        const double multiplied = N * double(p.groups) * multiplied_vectors(p.group_oc(), lanes<T>);
        steps = double(b.P) * (multiplied * double(b.K) + 10 * outputs / lanes<T>);
        bytes = weight_byte * double(p.groups * b.padded_oc * b.K);
        threads = std::min(threads, N * double(b.parts));
    } else {
        const double calls = N * double(p.groups * b.panels * b.tiles * b.blocks);
        steps = outputs * vectors * (1.03 * double(b.K) + 6) + call_cycles * calls;
        bytes = image_byte * N * double(p.IC * p.IH * p.IW + p.OC * b.P);
        // Of an output beyond the caches that is not written past them, each line is fetched before
        // its parts are written.
        constexpr double cache = 6 << 20, far_byte = 0.25;
        if (b.blocks > 1 || !past_caches(p))
            bytes += far_byte / sizeof(T) *
                     std::max(0.0, N * double(p.OC * b.P) * double(sizeof(T)) - cache);
    }
    return (steps + pieces + loads + 17 * awaited_vectors(p)) / threads + bytes * sizeof(T);
}

}  // namespace ai3
