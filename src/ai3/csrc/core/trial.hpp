// One algorithm on one problem, timed as it would run inside of a network.
#pragma once

#include "core/executor.hpp"

namespace ai3 {

// Arrays of its own, and the weights that the problem holds. Not to be used by two threads at a
// time.
class Trial {
  public:
    Trial(std::shared_ptr<const Problem> problem, std::string_view algorithm);

    // The seconds of one run by threads that are awake, after `flushed` bytes have gone through
    // their caches, in the place of what a network computes between two runs, and the inputs have
    // been written, as by what comes before.
    double seconds(std::size_t flushed);
    std::size_t workspace_bytes() const { return planned_.workspace_bytes; }

  private:
    double run(const std::byte* other, std::size_t flushed);

    Planned planned_;
    std::vector<Buffer> inputs_;
    Buffer output_, workspace_;
};

}  // namespace ai3
