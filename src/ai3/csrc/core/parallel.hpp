// Threads: OpenMP's pool, which torch uses too, so that the two never spin against each other.
// AI3_STD_THREADS takes threads of its own each time, however little the work, for ThreadSanitizer:
// it sees how they wait for each other, and does not see that in GNU's OpenMP.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#ifdef AI3_STD_THREADS
#include <thread>
#include <vector>
#endif

#include "core/team.hpp"
#include "core/tensor.hpp"

namespace ai3 {

// Whether this thread is one of those that share a loop.
inline bool in_parallel() { return omp_in_parallel() && !Team::current(); }

// As set by torch.set_num_threads in this thread, else by OMP_NUM_THREADS.
inline int max_threads() { return in_parallel() ? 1 : std::max(1, omp_get_max_threads()); }

#ifdef AI3_STD_THREADS
constexpr bool always_threads = true;
#else
constexpr bool always_threads = false;
#endif

// How many of `threads` to use for work of which each is to have `least`, as less is done sooner
// than a thread is awake.
inline int threads_worth(double work, double least, int threads) {
    return always_threads ? threads : int(std::clamp(work / least, 1.0, double(threads)));
}

// How many loops this thread has shared without a team.
inline thread_local std::int64_t loops_without_team = 0;

// Calls work(thread) for thread 0 and as many others below `threads` as there are, at a time.
// Where AI3_TASKS_THROW is defined, as for files of users', the first exception leaves the loop.
template <typename Work>
void on_threads(int threads, Work&& unguarded) {
#ifdef AI3_TASKS_THROW
    std::exception_ptr thrown;
    std::atomic_flag caught;
    auto work = [&](int thread) {
        try {
            unguarded(thread);
        } catch (...) {
            if (!caught.test_and_set()) thrown = std::current_exception();
        }
    };
#else
    auto& work = unguarded;
#endif
    if (Team* team = Team::current()) return team->run(threads, work);
    ++loops_without_team;
#ifdef AI3_STD_THREADS
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    work(0);
    for (std::thread& other : others) other.join();
#else
#pragma omp parallel num_threads(threads)
    work(omp_get_thread_num());
#endif
#ifdef AI3_TASKS_THROW
    if (thrown) std::rethrow_exception(thrown);
#endif
}

// Calls task(i, thread) for every i in [0, count); `thread` is in [0, threads). Tasks must not
// throw. Each thread begins with an even range of its own, so that what it wrote of one array is in
// its cache when it reads the same part in the next call; one that is done helps the others.
template <typename Task>
void parallel_for(int threads, Index count, Task&& task) {
    if (threads <= 1 || count <= 1 || in_parallel()) {
        for (Index i = 0; i < count; ++i) task(i, 0);
        return;
    }
    constexpr int most_ranges = 64, apart = cache_line / sizeof(Index);
    const int team = int(std::min<Index>(threads, count)), ranges = std::min(team, most_ranges);
    alignas(cache_line) Index next[most_ranges * apart];
    const auto begin = [&](int range) { return count * range / ranges; };
    for (int range = 0; range < ranges; ++range) next[range * apart] = begin(range);
    on_threads(team, [&](int thread) {
        for (int r = 0; r < ranges; ++r) {
            const int range = (thread + r) % ranges;
            const std::atomic_ref<Index> free(next[range * apart]);
            const Index end = begin(range + 1);
            if (free.load(std::memory_order_relaxed) >= end) continue;
            for (Index i; (i = free.fetch_add(1, std::memory_order_relaxed)) < end;)
                task(i, thread);
        }
    });
}

// Splits [0, count) into at most `threads` even ranges of at least `grain`; calls task(begin, end).
template <typename Task>
void parallel_ranges(int threads, Index count, Index grain, Task&& task) {
    if (always_threads) grain = 1;
    const Index ranges =
        std::clamp<Index>(count / std::max<Index>(grain, 1), 1, std::max(threads, 1));
    parallel_for(threads, ranges,
                 [&](Index i, int) { task(count * i / ranges, count * (i + 1) / ranges); });
}

}  // namespace ai3
