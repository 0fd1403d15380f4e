// What a user's file is linked with: a core of its own, in which ops/<op>/op.cpp, compiled with
// that file, registers one operation and its algorithm "custom", and an algorithm that asks those.
// All names but one are hidden, so that nothing of it meets the core that loads it.

#include "core/attributes.cpp"
#include "core/external.hpp"
#include "core/fork.cpp"
#include "core/halves.cpp"
#include "core/measured.cpp"
#include "core/mixed.cpp"
#include "core/operation.cpp"
#include "core/registry.cpp"
#include "core/shape.cpp"
#include "core/team.cpp"
#include "core/tensor.cpp"
#include "core/workspace.cpp"
#include "kernels/activation.cpp"
#include "kernels/broadcast.cpp"

namespace ai3 {

namespace {

class Loaded final : public External {
  public:
    explicit Loaded(std::string name) : name_(std::move(name)) {}

    std::string_view name() const override { return name_; }

    bool takes(Layout) const override { return true; }  // its refusal tells
    std::string refusal(const Problem& problem) const override {
        return own(problem)->refusal("custom");
    }
    std::size_t workspace_bytes(const Problem& problem) const override {
        return own(problem)->workspace_bytes("custom");
    }
    double cost(const Problem& problem) const override { return own(problem)->cost("custom"); }

    std::unique_ptr<Plan> plan(const Problem& problem) const override {
        std::shared_ptr<const Problem> mine = own(problem);
        std::shared_ptr<const Plan> plan = mine->plan("custom");
        return make_plan(
            [mine, plan](const void* const* inputs, void* output, std::byte* workspace) {
                plan->run(inputs, output, workspace);
            });
    }

  private:
    static std::unique_ptr<Problem> own(const Problem& problem) {
        return Operation::all()
            .find(problem.op())
            ->second->problem(problem.inputs(), problem.shared_weights(), problem.attributes(),
                              problem.threads());
    }

    std::string name_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) NamedAlgorithm* ai3_make_algorithm(
    const char* name) {
    return new Loaded(name);
}

}  // namespace ai3
