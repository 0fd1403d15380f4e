// Threads that wait for one parallel loop after the other of a network.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "core/tensor.hpp"

namespace ai3 {

// OpenMP's threads, held in one region and handed work through a word of memory, which takes a
// tenth of opening a region for each loop. A thread that is late, as the system runs something
// else in its place, is not waited for: it finds the work closed.
class Team {
  public:
    // Calls body() with a team of this thread and threads - 1 others.
    static void with(int threads, const std::function<void()>& body);

    // The team whose body this thread runs, outside of the work that it hands to the team.
    static Team* current() { return current_; }

    // Calls work(thread) for thread 0, which is this one, and for those in [1, threads) that come
    // before it returns; returns when all have.
    template <typename Work>
    void run(int threads, Work& work) {
        run(threads, [](void* of, int thread) { (*static_cast<Work*>(of))(thread); }, &work);
    }

  private:
    using Function = void (*)(void*, int);

    // state_: the number of the loop, whether threads may enter, and how many have.
    static constexpr std::uint32_t entered = 0x3ff, open = 0x400, loop = ~(entered | open),
                                   next_loop = 0x800, finished = ~0u;

    void run(int threads, Function function, void* context);
    void lead(const std::function<void()>& body);
    void serve(int thread);

    static inline thread_local Team* current_ = nullptr;

    alignas(cache_line) std::atomic<std::uint32_t> state_{0};
    alignas(cache_line) std::atomic<std::uint32_t> left_{0};
    alignas(cache_line) Function function_ = nullptr;
    void* context_ = nullptr;
    int threads_ = 0;
};

}  // namespace ai3
