// The nodes of a graph in the order in which they run, for inputs of certain sizes, and what
// becomes of them for inputs of other sizes.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/executor.hpp"

namespace ai3 {

class Schedule {
  public:
    // What a node's attributes are where the values that they depend on have these shapes.
    using Attribute = std::function<Attributes(const std::vector<Shape>&)>;

    // Values are numbered: the graph's inputs, then the output of each node.
    struct Node {
        std::vector<std::size_t> inputs;
        std::shared_ptr<const Problem> problem;  // nullptr: the next of the constants
        std::string algorithm;
        bool view = false, in_place = false;  // as `Flow` has them
        // A probe has nothing to do: nobody reads its output but for the shape. That of an identity
        // must be its first input's. Of their inputs only the shapes count.
        enum class Role { step, probe, identity } role = Role::step;
        std::vector<std::size_t> reads;  // the values whose shapes `attributes` takes
        Attribute attributes;            // empty: those of the problem, for all sizes
    };

    // Throws std::invalid_argument where a node's inputs come after it.
    Schedule(std::vector<Spec> inputs, std::vector<Node> nodes, std::vector<Constant> constants,
             std::vector<std::size_t> outputs);

    // The same nodes for inputs of other sizes. Throws std::invalid_argument where a node cannot
    // be done, or is not alike: arrays have other ranks, other extents are 1 or 0, or other arrays
    // of those that meet in it are of one shape. Also where an output is as large as `most` bytes.
    Schedule resized(const std::vector<Spec>& inputs, std::size_t most) const;

    const Spec& spec(std::size_t value) const { return specs_.at(value); }
    // The algorithm that a node runs, "default" resolved; empty for a constant.
    const std::string& resolved(std::size_t node) const { return resolved_.at(node); }

    // Places all values and plans all nodes, but for those whose plans the schedule has from
    // another size. `steps` receives the node of each step.
    std::unique_ptr<Executor> executor(std::vector<std::size_t>* steps = nullptr);

  private:
    // What does not depend on sizes.
    struct Common {
        std::size_t given;
        std::vector<Node> nodes;  // with the problems of the sizes that it was made for
        std::vector<const Operation*> operations;
        std::vector<Constant> constants;
        std::vector<std::size_t> outputs;
    };

    explicit Schedule(std::shared_ptr<const Common> common) : common_(std::move(common)) {}

    std::shared_ptr<const Common> common_;
    std::vector<Spec> specs_;  // by value
    std::vector<std::shared_ptr<const Problem>> problems_;
    std::vector<std::string> resolved_;
    std::vector<std::shared_ptr<const Planned>> planned_;
};

}  // namespace ai3
