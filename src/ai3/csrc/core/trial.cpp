#include "core/trial.hpp"

#include <chrono>
#include <cstring>
#include <random>

#include "core/fork.hpp"
#include "core/parallel.hpp"
#include "core/workspace.hpp"

namespace ai3 {

namespace {

// Half of them zeros, as after a ReLU.
void fill(Buffer& buffer, const Spec& spec) {
    std::memset(buffer.data(), 0, buffer.size());
    if (!is_real(spec.dtype)) return;
    with_real(spec.dtype, [&](auto zero) {
        using T = decltype(zero);
        std::minstd_rand random;
        for (Index i = 0; i < spec.held(); ++i) {
            const float value = float(random()) / float(std::minstd_rand::max()) * 2 - 1;
            buffer.as<T>()[i] = T(std::max(value, 0.0f));
        }
    });
}

std::uint64_t read(const std::byte* data, std::size_t bytes) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i + cache_line <= bytes; i += cache_line)
        sum += *reinterpret_cast<const volatile std::uint64_t*>(data + i);
    return sum;
}

}  // namespace

Trial::Trial(std::shared_ptr<const Problem> problem, std::string_view algorithm)
    : planned_(std::move(problem), algorithm),
      output_(planned_.problem->output().bytes()),
      workspace_(planned_.workspace_bytes) {
    for (const Spec& spec : planned_.problem->inputs())
        fill(inputs_.emplace_back(spec.bytes()), spec);
    // Pages are there before they are timed.
    std::memset(output_.data(), 0, output_.size());
    std::memset(workspace_.data(), 0, workspace_.size());
}

double Trial::seconds(std::size_t flushed) {
    Scratch other(flushed);
    const int threads = usable_threads();
    // As an executor does.
    if (threads == 1 || !planned_.problem->fusible(planned_.algorithm))
        return run(other.data(), flushed);
    double seconds = 0;
    Team::with(threads, [&] { seconds = run(other.data(), flushed); });
    return seconds;
}

double Trial::run(const std::byte* other, std::size_t flushed) {
    const int threads = usable_threads();
    const std::size_t part = flushed / std::size_t(threads);
    std::atomic<std::uint64_t> sink{0};
    on_threads(threads,
               [&](int thread) { sink += read(other + std::size_t(thread) * part, part); });
    std::vector<const void*> arrays;
    for (Buffer& input : inputs_) {
        arrays.push_back(input.data());
        const Index lines = Index(input.size() / cache_line);
        parallel_ranges(threads, lines, 64, [&](Index begin, Index end) {
            for (Index i = begin; i < end; ++i) {
                const auto word = reinterpret_cast<volatile std::uint64_t*>(
                    input.data() + std::size_t(i) * cache_line);
                *word = *word;
            }
        });
    }
    const auto start = std::chrono::steady_clock::now();
    planned_.plan->run(arrays.data(), output_.data(), workspace_.data());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace ai3
