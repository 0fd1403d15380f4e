// Algorithms from outside of the core: they know a problem by its specs and attributes.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

// The same questions as Algorithm's, asked of problems in layouts that it takes. A plan may throw
// when it runs.
class External : public NamedAlgorithm {
  public:
    bool built_in() const final { return false; }
    const External* external() const final { return this; }

    // Of inputs and outputs.
    virtual bool takes(Layout layout) const { return layout == Layout::dense; }
    virtual std::string refusal(const Problem&) const = 0;
    virtual std::size_t workspace_bytes(const Problem&) const = 0;
    virtual double cost(const Problem&) const = 0;
    virtual std::unique_ptr<Plan> plan(const Problem&) const = 0;
};

}  // namespace ai3
