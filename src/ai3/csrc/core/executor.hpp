// A graph compiled for one set of input shapes: plans and a flat list of steps over one arena.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/memory.hpp"

namespace ai3 {

// A problem with the plan for it. The plan may refer to the problem's weights, so they stay
// together.
struct Planned {
    Planned(std::shared_ptr<const Problem> problem, std::string_view name);

    std::shared_ptr<const Problem> problem;
    std::string algorithm;
    std::unique_ptr<const Plan> plan;
    std::size_t workspace_bytes;
};

class Executor {
  public:
    struct Step {
        std::shared_ptr<const Planned> planned;  // executors of several sizes may share it
        std::vector<Location> inputs;
        Location output;
    };

    Executor(std::vector<Spec> inputs, std::vector<Spec> outputs, std::vector<Constant> constants,
             std::vector<Step> steps, std::size_t arena_bytes);
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;

    const std::vector<Spec>& inputs() const { return inputs_; }
    const std::vector<Spec>& outputs() const { return outputs_; }
    const std::vector<Step>& steps() const { return steps_; }
    std::size_t arena_bytes() const { return arena_bytes_; }
    std::size_t workspace_bytes() const { return workspace_bytes_; }

    // Safe to call from several threads at a time: each call has an arena of its own. Where
    // `milliseconds` is given it receives each step's time.
    void run(const void* const* inputs, void* const* outputs,
             std::vector<double>* milliseconds = nullptr) const;

  private:
    // A team is worth opening for as many shared loops.
    static constexpr std::int64_t least_loops = 4;

    void run_steps(const void* const* inputs, void* const* outputs,
                   std::vector<double>* milliseconds) const;

    std::vector<Spec> inputs_, outputs_;
    std::vector<Constant> constants_;
    std::vector<Step> steps_;
    std::size_t arena_bytes_, workspace_bytes_ = 0;
    // Whoever wrote an algorithm may open regions of OpenMP, which within a team have one thread.
    bool custom_ = false;
    mutable std::atomic<std::int64_t> loops_{0};  // of a run without a team
};

}  // namespace ai3
