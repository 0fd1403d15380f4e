#include "core/team.hpp"

#include <omp.h>
#include <strings.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#ifdef AI3_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace ai3 {

namespace {

// In all teams of the process.
std::atomic<int> threads_of_teams{0};

// How often to look before sleeping: as long as OpenMP's threads do, which it takes from the same
// variable, and hardly where threads wait for each other's processors.
int patience() {
    static const int processors = omp_get_num_procs();
    static const bool passive = [] {
        const char* policy = std::getenv("OMP_WAIT_POLICY");
        return policy && strcasecmp(policy, "passive") == 0;
    }();
    if (passive) return 0;
    return threads_of_teams.load(std::memory_order_relaxed) > processors ? 100 : 100'000;
}

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

// Returns the first value other than those for which wait(value).
template <typename Wait>
std::uint32_t await(const std::atomic<std::uint32_t>& word, Wait&& wait) {
    std::uint32_t value;
    for (int looks = 0; wait(value = word.load(std::memory_order_acquire)); ++looks)
        if (looks < patience())
            pause();
        else
            word.wait(value, std::memory_order_acquire);
    return value;
}

}  // namespace

void Team::run(int threads, Function function, void* context) {
    function_ = function, context_ = context, threads_ = threads;
    left_.store(0, std::memory_order_relaxed);
    state_.store(((state_.load(std::memory_order_relaxed) & loop) + next_loop) | open);
    state_.notify_all();
    current_ = nullptr;
    function(context, 0);
    current_ = this;
    const std::uint32_t others = state_.fetch_and(~open, std::memory_order_acq_rel) & entered;
    await(left_, [&](std::uint32_t left) { return left != others; });
}

void Team::serve(int thread) {
    for (std::uint32_t last = 0;;) {
        std::uint32_t state = await(state_, [&](std::uint32_t now) {
            return now != finished && (!(now & open) || (now & loop) == last);
        });
        if (state == finished) return;
        last = state & loop;
        bool in = false;
        while (!in && state & open && (state & loop) == last)
            in = state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire);
        if (!in) continue;
        if (thread < threads_) function_(context_, thread);
        left_.fetch_add(1, std::memory_order_release);
        left_.notify_one();
    }
}

void Team::lead(const std::function<void()>& body) {
    current_ = this;
    body();
    current_ = nullptr;
    state_.store(finished);
    state_.notify_all();
}

void Team::with(int threads, const std::function<void()>& body) {
    Team team;
    threads = std::min(threads, int(entered));
    std::exception_ptr thrown;
    const auto guarded = [&] {
        try {
            body();
        } catch (...) {
            thrown = std::current_exception();
        }
    };
    threads_of_teams += threads;
#ifdef AI3_STD_THREADS
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread)
        others.emplace_back(&Team::serve, &team, thread);
    team.lead(guarded);
    for (std::thread& other : others) other.join();
#else
#pragma omp parallel num_threads(threads)
    if (const int thread = omp_get_thread_num())
        team.serve(thread);
    else
        team.lead(guarded);
#endif
    threads_of_teams -= threads;
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace ai3
