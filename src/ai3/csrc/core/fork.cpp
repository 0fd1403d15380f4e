#include "core/fork.hpp"

#include <pthread.h>

#include "core/parallel.hpp"

namespace ai3 {

namespace {

thread_local bool lost_its_threads = false;

// A fork leaves one thread in the child, which calls this.
[[maybe_unused]] const int registered =
    pthread_atfork(nullptr, nullptr, [] { lost_its_threads = true; });

}  // namespace

int usable_threads() { return lost_its_threads ? 1 : max_threads(); }

}  // namespace ai3
