// Memory that outlives its use, so that the next use does not pay for page faults.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/tensor.hpp"

namespace ai3 {

// Buffers that are lent to one user at a time. Safe to use from any thread.
class ScratchPool {
  public:
    // What is kept while nobody uses it; larger buffers are freed on return.
    static constexpr std::size_t kept_bytes = std::size_t{256} << 20;

    // Never destroyed, as buffers may come back while the process ends.
    static ScratchPool& instance();

    // At least `bytes`, of those that are kept at most `most`.
    Buffer take(std::size_t bytes, std::size_t most);
    void give(Buffer buffer);

  private:
    std::mutex mutex_;
    std::vector<Buffer> free_;
    std::size_t kept_ = 0;
};

// A buffer of the pool for the lifetime of this object.
class Scratch {
  public:
    explicit Scratch(std::size_t bytes)
        : buffer_(ScratchPool::instance().take(bytes, 4 * bytes + (1 << 16))) {}
    ~Scratch() { ScratchPool::instance().give(std::move(buffer_)); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    std::byte* data() { return buffer_.data(); }

  private:
    Buffer buffer_;
};

// A buffer of exactly `bytes` that returns to the pool with its last owner: packed weights, of
// which a training needs the like in every step.
std::shared_ptr<Buffer> pooled_buffer(std::size_t bytes);

}  // namespace ai3
