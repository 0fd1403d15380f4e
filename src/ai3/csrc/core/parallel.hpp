// Threads: OpenMP's pool, which torch uses too, so that the two never spin against each other.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>

#include "core/tensor.hpp"

namespace ai3 {

// As set by torch.set_num_threads in this thread, else by OMP_NUM_THREADS.
inline int max_threads() { return omp_in_parallel() ? 1 : std::max(1, omp_get_max_threads()); }

// Calls task(i, thread) for every i in [0, count), whichever thread is free taking the next one.
// `thread` is in [0, threads). Tasks must not throw.
template <typename Task>
void parallel_for(int threads, Index count, Task&& task) {
    if (threads <= 1 || count <= 1 || omp_in_parallel()) {
        for (Index i = 0; i < count; ++i) task(i, 0);
        return;
    }
    std::atomic<Index> next{0};
#pragma omp parallel num_threads(int(std::min<Index>(threads, count)))
    {
        const int thread = omp_get_thread_num();
        for (Index i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i, thread);
    }
}

// Splits [0, count) into at most `threads` even ranges of at least `grain`; calls task(begin, end).
template <typename Task>
void parallel_ranges(int threads, Index count, Index grain, Task&& task) {
    const Index ranges =
        std::clamp<Index>(count / std::max<Index>(grain, 1), 1, std::max(threads, 1));
    parallel_for(threads, ranges,
                 [&](Index i, int) { task(count * i / ranges, count * (i + 1) / ranges); });
}

}  // namespace ai3
