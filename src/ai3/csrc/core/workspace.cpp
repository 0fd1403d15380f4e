#include "core/workspace.hpp"

#include <pthread.h>

namespace ai3 {

ScratchPool& ScratchPool::instance() {
    static auto* pool = [] {
        // A child process that is forked while another thread holds the lock could never take it.
        pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                       [] { instance().mutex_.unlock(); });
        return new ScratchPool;
    }();
    return *pool;
}

Buffer ScratchPool::take(std::size_t bytes, std::size_t most) {
    if (bytes == 0) return {};
    {
        std::lock_guard lock(mutex_);
        for (auto it = free_.begin(); it != free_.end(); ++it)
            if (it->size() >= bytes && it->size() <= most) {
                Buffer buffer = std::move(*it);
                free_.erase(it);
                kept_ -= buffer.size();
                return buffer;
            }
    }
    return Buffer(bytes);
}

void ScratchPool::give(Buffer buffer) {
    if (buffer.size() == 0 || buffer.size() > kept_bytes) return;
    std::lock_guard lock(mutex_);
    while (kept_ + buffer.size() > kept_bytes) {
        kept_ -= free_.front().size();
        free_.erase(free_.begin());
    }
    kept_ += buffer.size();
    free_.push_back(std::move(buffer));
}

std::shared_ptr<Buffer> pooled_buffer(std::size_t bytes) {
    return {new Buffer(ScratchPool::instance().take(bytes, bytes)), [](Buffer* buffer) {
                ScratchPool::instance().give(std::move(*buffer));
                delete buffer;
            }};
}

}  // namespace ai3
