// The threads of a threadgroup as fibers of one thread: each runs until it waits at a barrier, then
// the next one. What a missing barrier lets through is then always wrong. Every second group starts
// with its last thread.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

struct uint2 {
    unsigned x, y;
};

struct uint3 {
    unsigned x, y, z;
};

// Where a thread is: its group, itself in that, and in the grid.
struct Position {
    uint3 group;
    unsigned index;
    uint3 grid;
};

namespace fibers {

constexpr std::size_t stack_bytes = 64 << 10;

struct Fiber {
    std::unique_ptr<char[]> stack{new char[stack_bytes]};
    ucontext_t context;
    jmp_buf at;
    Position position;
    bool made = false, done;
};

static std::vector<std::unique_ptr<Fiber>> pool;
static Fiber *running;
static jmp_buf scheduler;
static std::function<void(const Position &)> body;

__attribute__((noinline)) inline void wait() {
    if (!_setjmp(running->at)) _longjmp(scheduler, 1);
}

inline void enter() {
    for (;;) {
        body(running->position);
        running->done = true;
        wait();
    }
}

__attribute__((noinline)) inline void resume(Fiber &fiber) {
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.made) _longjmp(fiber.at, 1);
    fiber.made = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = stack_bytes;
    makecontext(&fiber.context, enter, 0);
    setcontext(&fiber.context);
}

// The first `threads` fibers, each to its end.
inline void run(std::size_t threads, bool backwards) {
    for (std::size_t left = threads; left;) {
        left = 0;
        for (std::size_t i = 0; i < threads; ++i) {
            Fiber &fiber = *pool[backwards ? threads - 1 - i : i];
            resume(fiber);
            left += !fiber.done;
        }
        if (left && left != threads) {
            std::fputs("some threads of a group ended while others wait at a barrier\n", stderr);
            std::abort();
        }
    }
}

}  // namespace fibers

extern char __start_threadgroup[] __attribute__((weak, visibility("hidden")));
extern char __stop_threadgroup[] __attribute__((weak, visibility("hidden")));

// As dispatchThreads: groups at the end of the grid may be smaller.
inline void dispatch(const unsigned *threads, const unsigned *size,
                     const std::function<void(const Position &)> &of) {
    fibers::body = of;
    unsigned groups[3];
    for (int i = 0; i < 3; ++i) groups[i] = (threads[i] + size[i] - 1) / size[i];
    bool backwards = false;
    for (unsigned z = 0; z < groups[2]; ++z)
        for (unsigned y = 0; y < groups[1]; ++y)
            for (unsigned x = 0; x < groups[0]; ++x, backwards = !backwards) {
                std::memset(__start_threadgroup, 0xff, __stop_threadgroup - __start_threadgroup);
                const uint3 first{x * size[0], y * size[1], z * size[2]};
                const uint3 extent{std::min(size[0], threads[0] - first.x),
                                   std::min(size[1], threads[1] - first.y),
                                   std::min(size[2], threads[2] - first.z)};
                unsigned count = 0;
                for (unsigned k = 0; k < extent.z; ++k)
                    for (unsigned j = 0; j < extent.y; ++j)
                        for (unsigned i = 0; i < extent.x; ++i, ++count) {
                            if (count == fibers::pool.size())
                                fibers::pool.emplace_back(new fibers::Fiber);
                            fibers::Fiber &fiber = *fibers::pool[count];
                            fiber.done = false;
                            fiber.position = {
                                {x, y, z}, count, {first.x + i, first.y + j, first.z + k}};
                        }
                fibers::run(count, backwards);
            }
}
