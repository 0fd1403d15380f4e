// Work along one dimension of an array, (outer, n, inner).
#pragma once

#include <algorithm>

#include "core/parallel.hpp"
#include "core/simd.hpp"

namespace ai3 {

// Calls row(at) for every line of `n` elements that are neighbours in memory, at element `at`;
// where `inner` is more than 1, vectors(at, live) for as many neighbouring lines as live. Threads
// take at least `grain` elements.
template <typename T, typename Row, typename Vectors>
void for_each_line(int threads, Index outer, Index n, Index inner, Index grain, Row row,
                   Vectors vectors) {
    constexpr Index W = lanes<T>;
    const Index count = inner == 1 ? 1 : (inner + W - 1) / W;
    const Index work = n * (inner == 1 ? 1 : W);
    parallel_ranges(threads, outer * count, std::max<Index>(grain / std::max<Index>(work, 1), 1),
                    [&](Index i, Index end) {
                        for (; i < end; ++i) {
                            const Index lane = i % count * W;
                            const Index at = i / count * n * inner + lane;
                            if (inner == 1)
                                row(at);
                            else
                                vectors(at, LaneMask<T>::first(std::min(W, inner - lane)));
                        }
                    });
}

}  // namespace ai3
