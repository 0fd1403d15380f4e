// What a process that was forked may do.
#pragma once

namespace ai3 {

// As many threads as max_threads(); but one in the thread of a child process that was there before
// the fork: the threads that OpenMP keeps for it are gone, and it would wait for them for ever.
int usable_threads();

}  // namespace ai3
