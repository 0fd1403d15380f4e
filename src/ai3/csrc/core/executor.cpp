#include "core/executor.hpp"

#include <chrono>

#include "core/workspace.hpp"

namespace ai3 {

Planned::Planned(std::shared_ptr<const Problem> p, std::string_view name)
    : problem(std::move(p)),
      algorithm(problem->resolve(name)),
      plan(problem->plan(algorithm)),
      workspace_bytes(problem->workspace_bytes(algorithm)) {}

Executor::Executor(std::vector<Spec> inputs, std::vector<Spec> outputs, std::vector<Step> steps,
                   std::size_t arena_bytes)
    : inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      steps_(std::move(steps)),
      arena_bytes_(align_up(arena_bytes)) {
    const auto check = [&](const Location& location, const Spec& spec) {
        const bool inside =
            location.place == Place::input
                ? location.at < inputs_.size() && inputs_[location.at].bytes() == spec.bytes()
            : location.place == Place::output
                ? location.at < outputs_.size() && outputs_[location.at].bytes() == spec.bytes()
                : location.at <= arena_bytes_ && spec.bytes() <= arena_bytes_ - location.at;
        if (!inside) throw std::invalid_argument("a step's value lies outside of its memory");
    };
    for (const Step& step : steps_) {
        const Problem& problem = *step.planned.problem;
        if (step.inputs.size() != problem.inputs().size())
            throw std::invalid_argument("a step has not as many inputs as its problem");
        for (std::size_t i = 0; i < step.inputs.size(); ++i)
            check(step.inputs[i], problem.inputs()[i]);
        check(step.output, problem.output());
        workspace_bytes_ = std::max(workspace_bytes_, step.planned.workspace_bytes);
    }
}

void Executor::run(const void* const* inputs, void* const* outputs,
                   std::vector<double>* milliseconds) const {
    using Clock = std::chrono::steady_clock;
    Scratch memory(arena_bytes_ + workspace_bytes_);
    std::byte* arena = memory.data();
    std::byte* workspace = arena + arena_bytes_;
    const auto locate = [&](const Location& location) -> void* {
        switch (location.place) {
            case Place::input:
                return const_cast<void*>(inputs[location.at]);
            case Place::output:
                return outputs[location.at];
            case Place::arena:
                return arena + location.at;
        }
        return nullptr;
    };
    std::vector<const void*> arguments;
    for (const Step& step : steps_) {
        arguments.clear();
        for (const Location& input : step.inputs) arguments.push_back(locate(input));
        const auto start = milliseconds ? Clock::now() : Clock::time_point{};
        step.planned.plan->run(arguments.data(), locate(step.output), workspace);
        if (milliseconds)
            milliseconds->push_back(
                std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
}

}  // namespace ai3
