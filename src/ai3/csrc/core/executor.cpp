#include "core/executor.hpp"

#include <chrono>

#include "core/fork.hpp"
#include "core/parallel.hpp"
#include "core/workspace.hpp"

namespace ai3 {

Planned::Planned(std::shared_ptr<const Problem> p, std::string_view name)
    : problem(std::move(p)),
      algorithm(problem->resolve(name)),
      plan(problem->plan(algorithm)),
      workspace_bytes(problem->workspace_bytes(algorithm)) {}

Executor::Executor(std::vector<Spec> inputs, std::vector<Spec> outputs,
                   std::vector<Constant> constants, std::vector<Step> steps,
                   std::size_t arena_bytes)
    : inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      constants_(std::move(constants)),
      steps_(std::move(steps)),
      arena_bytes_(align_up(arena_bytes)) {
    const auto size_of_place = [&](const Location& location) -> std::size_t {
        switch (location.place) {
            case Place::input:
                return inputs_.at(location.index).bytes();
            case Place::output:
                return outputs_.at(location.index).bytes();
            case Place::constant:
                return constants_.at(location.index).spec.bytes();
            case Place::arena:
                return arena_bytes_;
        }
        return 0;
    };
    const auto check = [&](const Location& location, const Spec& spec) {
        const std::size_t size = size_of_place(location);
        if (location.offset > size || spec.bytes() > size - location.offset)
            throw std::invalid_argument("a step's value lies outside of its memory");
    };
    for (const Step& step : steps_) {
        const Problem& problem = *step.planned->problem;
        if (step.inputs.size() != problem.inputs().size())
            throw std::invalid_argument("a step has not as many inputs as its problem");
        for (std::size_t i = 0; i < step.inputs.size(); ++i)
            check(step.inputs[i], problem.inputs()[i]);
        check(step.output, problem.output());
        if (step.output.place == Place::input || step.output.place == Place::constant)
            throw std::invalid_argument("a step writes into an input or a constant");
        custom_ = custom_ || !problem.fusible(step.planned->algorithm);
        workspace_bytes_ = std::max(workspace_bytes_, step.planned->workspace_bytes);
    }
}

void Executor::run(const void* const* inputs, void* const* outputs,
                   std::vector<double>* milliseconds) const {
    const int threads = usable_threads();
    if (threads > 1 && !custom_ && loops_.load(std::memory_order_relaxed) >= least_loops)
        return Team::with(threads, [&] { run_steps(inputs, outputs, milliseconds); });
    const std::int64_t before = loops_without_team;
    run_steps(inputs, outputs, milliseconds);
    loops_.store(loops_without_team - before, std::memory_order_relaxed);
}

void Executor::run_steps(const void* const* inputs, void* const* outputs,
                         std::vector<double>* milliseconds) const {
    using Clock = std::chrono::steady_clock;
    Scratch memory(arena_bytes_ + workspace_bytes_);
    std::byte* arena = memory.data();
    std::byte* workspace = arena + arena_bytes_;
    const auto locate = [&](const Location& location) -> void* {
        switch (location.place) {
            case Place::input:
                return static_cast<std::byte*>(const_cast<void*>(inputs[location.index])) +
                       location.offset;
            case Place::output:
                return static_cast<std::byte*>(outputs[location.index]) + location.offset;
            case Place::constant:
                return static_cast<std::byte*>(const_cast<void*>(constants_[location.index].data)) +
                       location.offset;
            case Place::arena:
                return arena + location.offset;
        }
        return nullptr;
    };
    std::vector<const void*> arguments;
    for (const Step& step : steps_) {
        arguments.clear();
        for (const Location& input : step.inputs) arguments.push_back(locate(input));
        const auto start = milliseconds ? Clock::now() : Clock::time_point{};
        step.planned->plan->run(arguments.data(), locate(step.output), workspace);
        if (milliseconds)
            milliseconds->push_back(
                std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
}

}  // namespace ai3
