// The four concepts that everything else is made of:
//
//   problem    a value: everything that defines the work, nothing about how it is done
//   Algorithm  stateless: says whether it can do a problem, and plans it
//   Plan       packed weights and chosen blocking; it only runs
//   Operation  a problem type with its registered algorithms
//
// An operation is a struct P in ops/<op>/op.hpp with
//   static constexpr std::string_view op;                     its name
//   P(inputs, weights, attributes, threads)                   throws std::invalid_argument
//   Spec output() const;
//   void reference(const void* const* inputs, const WeightSet&, void* output) const;
//   static std::string_view choose(const P&);                 what "default" stands for
//   static std::string_view guess(const P&);                  if it does: what "guess" stands for
//   static constexpr bool takes_layouts;                      if it does: inputs may be other than
//                                                             dense
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/attributes.hpp"
#include "core/parallel.hpp"
#include "core/registry.hpp"
#include "core/tensor.hpp"
#include "core/workspace.hpp"

namespace ai3 {

// Dense memory with an owner, which may be an array of another library.
struct Constant {
    Spec spec;
    const void* data = nullptr;
    std::shared_ptr<const void> owner;

    template <typename T>
    const T* as() const {
        return static_cast<const T*>(data);
    }
};

// The weights of one layer (an absent bias is nullopt) and what algorithms have packed of them,
// kept by name so that plans for several input shapes share one packed copy. Safe to use from any
// thread.
class WeightSet {
  public:
    explicit WeightSet(std::vector<std::optional<Constant>> weights)
        : weights_(std::move(weights)) {}

    std::size_t size() const { return weights_.size(); }
    const Constant* get(std::size_t i) const {
        return i < weights_.size() && weights_[i] ? &*weights_[i] : nullptr;
    }
    template <typename T>
    const T* data(std::size_t i) const {
        const Constant* weight = get(i);
        return weight ? weight->as<T>() : nullptr;
    }

    // The buffer of `bytes` that `fill` wrote when `name` was first asked for.
    std::shared_ptr<const Buffer> packed(const std::string& name, std::size_t bytes,
                                         const std::function<void(Buffer&)>& fill) const {
        std::lock_guard lock(mutex_);
        auto& slot = packed_[name];
        if (!slot) {
            auto buffer = pooled_buffer(bytes);
            fill(*buffer);
            slot = std::move(buffer);
        }
        return slot;
    }

    std::size_t packed_bytes() const {
        std::lock_guard lock(mutex_);
        std::size_t total = 0;
        for (const auto& [name, buffer] : packed_) total += buffer->size();
        return total;
    }

  private:
    std::vector<std::optional<Constant>> weights_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, std::shared_ptr<const Buffer>> packed_;
};

class Plan {
  public:
    virtual ~Plan() = default;
    // Arrays of the problem's shapes and layouts; allocates nothing and does not throw. `workspace`
    // holds the algorithm's workspace_bytes(problem), on a cache line's boundary.
    virtual void run(const void* const* inputs, void* output, std::byte* workspace) const = 0;
};

template <typename P>
class Algorithm : public NamedAlgorithm {
  public:
    // Empty where the problem can be done, else the reason why not, as a clause.
    virtual std::string refusal(const P&) const { return {}; }
    virtual std::size_t workspace_bytes(const P&) const { return 0; }
    // What the problem is estimated to take, in cycles; infinite for what is never chosen unasked.
    virtual double cost(const P&) const { return std::numeric_limits<double>::infinity(); }
    virtual std::unique_ptr<Plan> plan(const P&, const WeightSet&) const = 0;
};

// A plan made of a callable (inputs, output, workspace), which carries all that it needs.
template <typename Run>
std::unique_ptr<Plan> make_plan(Run run) {
    struct Planned final : Plan {
        explicit Planned(Run r) : run_(std::move(r)) {}
        void run(const void* const* inputs, void* output, std::byte* workspace) const override {
            run_(inputs, output, workspace);
        }
        Run run_;
    };
    return std::make_unique<Planned>(std::move(run));
}

template <typename P>
class Registry : public AlgorithmTable {
  public:
    static Registry& instance() {
        static Registry registry;
        return registry;
    }

    const Algorithm<P>& at(std::string_view name) const { return typed(AlgorithmTable::at(name)); }

    // The algorithms that can do the problem and have a cost, the least first.
    std::vector<std::pair<std::string_view, double>> ranking(const P& problem) const {
        return AlgorithmTable::ranking([&](const NamedAlgorithm& algorithm) {
            const Algorithm<P>& one = typed(algorithm);
            return one.refusal(problem).empty() ? one.cost(problem)
                                                : std::numeric_limits<double>::infinity();
        });
    }
    std::string_view cheapest(const P& problem, std::string_view otherwise) const {
        const auto ranked = ranking(problem);
        return ranked.empty() ? otherwise : ranked.front().first;
    }

  private:
    Registry() : AlgorithmTable(P::op) {}

    static const Algorithm<P>& typed(const NamedAlgorithm& algorithm) {
        return static_cast<const Algorithm<P>&>(algorithm);
    }
};

// Registers an algorithm: `const Register<Conv2d, Direct> registered;`
template <typename P, typename A>
struct Register {
    Register() { Registry<P>::instance().add(std::make_unique<A>()); }
};

// Registers an A, made of an algorithm of Source, for every one that there is.
template <typename P, typename Source, typename A>
struct RegisterDerived {
    RegisterDerived() {
        Registry<P>::instance().derive(
            Registry<Source>::instance(), [](const NamedAlgorithm& algorithm) {
                return std::make_unique<A>(static_cast<const Algorithm<Source>&>(algorithm));
            });
    }
};

// A problem whose type is not known statically; what the bindings and the executor hold.
class Problem {
  public:
    virtual ~Problem() = default;
    virtual std::string_view op() const = 0;
    virtual const std::vector<Spec>& inputs() const = 0;
    virtual Spec output() const = 0;
    // The name behind "default" or "guess" for this problem; any other name stands for itself.
    virtual std::string resolve(std::string_view algorithm) const = 0;
    // The algorithms that can do it by their estimated cost, in cycles, the least first.
    virtual std::vector<std::pair<std::string, double>> ranking() const = 0;
    virtual std::string refusal(std::string_view algorithm) const = 0;
    virtual std::size_t workspace_bytes(std::string_view algorithm) const = 0;
    virtual std::unique_ptr<Plan> plan(std::string_view algorithm) const = 0;
    virtual void reference(const void* const* inputs, void* output) const = 0;
};

class Operation {
  public:
    virtual ~Operation() = default;
    virtual std::string_view name() const = 0;
    virtual std::vector<std::string> algorithms() const = 0;
    virtual std::unique_ptr<Problem> problem(std::vector<Spec> inputs,
                                             std::shared_ptr<const WeightSet> weights,
                                             const Attributes& attributes, int threads) const = 0;

    static std::map<std::string, const Operation*>& all() {
        static std::map<std::string, const Operation*> operations;
        return operations;
    }
};

template <typename P>
class OperationOf final : public Operation {
  public:
    OperationOf() { all()[std::string(P::op)] = this; }

    std::string_view name() const override { return P::op; }

    std::vector<std::string> algorithms() const override {
        auto names = Registry<P>::instance().names();
        if constexpr (guesses) names.push_back("guess");
        names.push_back("default");
        return names;
    }

    std::unique_ptr<Problem> problem(std::vector<Spec> inputs,
                                     std::shared_ptr<const WeightSet> weights,
                                     const Attributes& attributes, int threads) const override {
        if constexpr (!requires { P::takes_layouts; })
            for (const Spec& input : inputs)
                if (input.layout != Layout::dense)
                    throw std::invalid_argument(std::string(P::op) + ": the input " +
                                                to_string(input) + " must be dense");
        return std::make_unique<Typed>(std::move(inputs), std::move(weights), attributes, threads);
    }

  private:
    static constexpr bool guesses = requires(const P& problem) { P::guess(problem); };

    class Typed final : public Problem {
      public:
        Typed(std::vector<Spec> inputs, std::shared_ptr<const WeightSet> weights,
              const Attributes& attributes, int threads)
            : inputs_(std::move(inputs)),
              weights_(std::move(weights)),
              problem_(inputs_, *weights_, attributes, threads) {}

        std::string_view op() const override { return P::op; }
        const std::vector<Spec>& inputs() const override { return inputs_; }
        Spec output() const override { return problem_.output(); }
        std::string resolve(std::string_view algorithm) const override {
            if (algorithm == "default") return std::string(P::choose(problem_));
            if constexpr (guesses)
                if (algorithm == "guess") return std::string(P::guess(problem_));
            return std::string(algorithm);
        }
        std::vector<std::pair<std::string, double>> ranking() const override {
            const auto ranked = Registry<P>::instance().ranking(problem_);
            return {ranked.begin(), ranked.end()};
        }
        std::string refusal(std::string_view algorithm) const override {
            return at(algorithm).refusal(problem_);
        }
        std::size_t workspace_bytes(std::string_view algorithm) const override {
            return empty() ? 0 : at(algorithm).workspace_bytes(problem_);
        }
        std::unique_ptr<Plan> plan(std::string_view algorithm) const override {
            const Algorithm<P>& chosen = at(algorithm);
            if (std::string reason = chosen.refusal(problem_); !reason.empty())
                throw std::invalid_argument(std::string(P::op) + ": '" +
                                            std::string(chosen.name()) +
                                            "' cannot do this: " + reason);
            if (empty()) return make_plan([](const void* const*, void*, std::byte*) {});
            return chosen.plan(problem_, *weights_);
        }
        void reference(const void* const* inputs, void* output) const override {
            if (!empty()) problem_.reference(inputs, *weights_, output);
        }

      private:
        bool empty() const { return elements(problem_.output().shape) == 0; }
        const Algorithm<P>& at(std::string_view algorithm) const {
            return Registry<P>::instance().at(resolve(algorithm));
        }

        std::vector<Spec> inputs_;
        std::shared_ptr<const WeightSet> weights_;
        P problem_;
    };
};

}  // namespace ai3
