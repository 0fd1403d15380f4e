#include "core/schedule.hpp"

#include "core/fork.hpp"

namespace ai3 {

namespace {

// Whether arrays of these shapes meet as those of the others do, so that what a graph's structure
// depends on is the same: what is broadcast, what changes nothing, what may share memory.
bool alike(const std::vector<const Spec*>& a, const std::vector<const Spec*>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        const Shape &x = a[i]->shape, &y = b[i]->shape;
        if (a[i]->dtype != b[i]->dtype || x.size() != y.size()) return false;
        for (std::size_t dim = 0; dim < x.size(); ++dim)
            if (x[dim] != y[dim] && std::min(x[dim], y[dim]) < 2) return false;
        for (std::size_t other = 0; other < i; ++other)
            if ((x == a[other]->shape) != (y == b[other]->shape)) return false;
    }
    return true;
}

void require(bool holds, const char* otherwise) {
    if (!holds) throw std::invalid_argument(otherwise);
}

}  // namespace

Schedule::Schedule(std::vector<Spec> inputs, std::vector<Node> nodes,
                   std::vector<Constant> constants, std::vector<std::size_t> outputs)
    : specs_(std::move(inputs)) {
    auto common = std::make_shared<Common>();
    common->given = specs_.size();
    std::size_t constant = 0;
    for (const Node& node : nodes) {
        for (const auto* values : {&node.inputs, &node.reads})
            for (std::size_t value : *values)
                require(value < specs_.size(), "a node reads what comes after it");
        if (!node.problem) {
            specs_.push_back(constants.at(constant++).spec);
            resolved_.emplace_back();
            common->operations.push_back(nullptr);
            continue;
        }
        require(node.inputs.size() == node.problem->inputs().size(),
                "a node has not as many inputs as its problem");
        specs_.push_back(node.problem->output());
        resolved_.push_back(node.problem->resolve(node.algorithm));
        common->operations.push_back(Operation::all().find(node.problem->op())->second);
    }
    for (std::size_t value : outputs)
        require(value < specs_.size(), "an output is no value of the graph");
    for (const Node& node : nodes) problems_.push_back(node.problem);
    planned_.resize(nodes.size());
    common->nodes = std::move(nodes);
    common->constants = std::move(constants);
    common->outputs = std::move(outputs);
    common_ = std::move(common);
}

Schedule Schedule::resized(const std::vector<Spec>& inputs, std::size_t most) const {
    require(inputs.size() == common_->given, "there are other inputs");
    Schedule made(common_);
    made.specs_ = inputs;
    made.specs_.reserve(specs_.size());
    std::vector<const Spec*> before, after;
    for (std::size_t i = 0; i < common_->nodes.size(); ++i) {
        const Node& node = common_->nodes[i];
        const auto keep = [&] {
            made.specs_.push_back(specs_[common_->given + i]);
            made.problems_.push_back(problems_[i]);
            made.resolved_.push_back(resolved_[i]);
            made.planned_.push_back(planned_[i]);
        };
        if (!node.problem) {
            keep();
            continue;
        }
        const Problem& problem = *problems_[i];
        const bool is_probe = node.role != Node::Role::step;
        std::vector<Spec> given;
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            const Spec& spec = made.specs_[node.inputs[k]];
            given.push_back(is_probe ? Spec{problem.inputs()[k].dtype, spec.shape} : spec);
        }
        if (!node.attributes && given == problem.inputs()) {
            keep();
            continue;
        }
        std::vector<Shape> read;
        for (std::size_t value : node.reads) read.push_back(made.specs_[value].shape);
        std::shared_ptr<const Problem> other = common_->operations[i]->problem(
            std::move(given), problem.shared_weights(),
            node.attributes ? node.attributes(read) : problem.attributes(), problem.threads());
        made.specs_.push_back(other->output());
        require(made.specs_.back().bytes() < most, "an output is large");
        std::string resolved = is_probe ? resolved_[i] : other->resolve(node.algorithm);
        require(is_probe || other->refusal(resolved).empty(), "an algorithm cannot do it");
        before.clear();
        after.clear();
        for (std::size_t k = 0; k < node.inputs.size(); ++k) {
            before.push_back(&problem.inputs()[k]);
            after.push_back(&other->inputs()[k]);
        }
        before.push_back(&specs_[common_->given + i]);
        after.push_back(&made.specs_.back());
        require(alike(before, after), "arrays meet otherwise");
        require(node.role != Node::Role::identity || other->inputs()[0] == made.specs_.back(),
                "what changed nothing changes something");
        made.problems_.push_back(std::move(other));
        made.resolved_.push_back(std::move(resolved));
        made.planned_.emplace_back();
    }
    return made;
}

std::unique_ptr<Executor> Schedule::executor(std::vector<std::size_t>* steps) {
    const auto& nodes = common_->nodes;
    std::vector<Flow> flows;
    flows.reserve(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        Flow& flow = flows.emplace_back();
        if (!problems_[i]) continue;
        flow.inputs = nodes[i].inputs;
        flow.attributes = &problems_[i]->attributes();
        const bool is_probe = nodes[i].role != Node::Role::step;
        flow.kind = Flow::kind_of(problems_[i]->op(), nodes[i].view || is_probe);
        flow.direct = resolved_[i] == "direct" || is_probe;
        flow.in_place = nodes[i].in_place;
    }
    const Memory memory = place_values(common_->given, specs_, flows, common_->outputs);
    if (steps) *steps = memory.steps;
    std::vector<Executor::Step> made;
    made.reserve(memory.steps.size() + memory.copies.size());
    for (std::size_t i : memory.steps) {
        if (!planned_[i]) planned_[i] = std::make_shared<const Planned>(problems_[i], resolved_[i]);
        Executor::Step& step = made.emplace_back();
        step.planned = planned_[i];
        for (std::size_t input : nodes[i].inputs) step.inputs.push_back(memory.locations[input]);
        step.output = memory.locations[common_->given + i];
    }
    for (const auto& [value, output] : memory.copies) {
        const auto weights =
            std::make_shared<const WeightSet>(std::vector<std::optional<Constant>>{});
        std::shared_ptr<const Problem> same = Operation::all().find("flatten")->second->problem(
            {specs_[value]}, weights, {}, usable_threads());
        made.push_back({std::make_shared<const Planned>(std::move(same), "direct"),
                        {memory.locations[value]},
                        {Place::output, output, 0}});
    }
    std::vector<Spec> outputs;
    for (std::size_t value : common_->outputs) outputs.push_back(specs_[value]);
    return std::make_unique<Executor>(
        std::vector<Spec>(specs_.begin(), specs_.begin() + std::ptrdiff_t(common_->given)),
        std::move(outputs), common_->constants, std::move(made), memory.arena_bytes);
}

}  // namespace ai3
