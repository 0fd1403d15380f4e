// Algorithms from outside of the core: they know a problem by its specs and attributes.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

// The same questions as Algorithm's. Arrays are dense, row-major. A plan may throw when it runs.
class External : public NamedAlgorithm {
  public:
    bool built_in() const final { return false; }
    const External* external() const final { return this; }

    virtual std::string refusal(const Problem&) const = 0;
    virtual std::size_t workspace_bytes(const Problem&) const = 0;
    virtual double cost(const Problem&) const = 0;
    virtual std::unique_ptr<Plan> plan(const Problem&) const = 0;
};

}  // namespace ai3
