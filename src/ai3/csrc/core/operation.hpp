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
//   static constexpr bool takes_dtypes;                       if it does: inputs may be other than
//                                                             floating-point
//   static constexpr bool moves;                              if it does: all that is done to
//                                                             elements is that they are moved
//   static constexpr bool takes_bfloat16;                     if it does: inputs, weights and
//                                                             output may be bfloat16
//   static constexpr std::size_t factors;                     if that gains: how many inputs, the
//                                                             first, "<algorithm> bf16" rounds
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
#include "core/halves.hpp"
#include "core/parallel.hpp"
#include "core/registry.hpp"
#include "core/tensor.hpp"
#include "core/workspace.hpp"

namespace ai3 {

// Dense memory with an owner, which may be an array of another library. `lower` is what an array of
// bfloat16 lacks of the float32 that it was rounded from, where that is kept.
struct Constant {
    Spec spec;
    const void* data = nullptr;
    std::shared_ptr<const void> owner;
    std::shared_ptr<const LowerHalf> lower{};

    template <typename T>
    const T* as() const {
        return static_cast<const T*>(data);
    }
    // Element `i`, of those of a floating-point dtype.
    double real(Index i) const {
        return with_real(spec.dtype, [&](auto zero) { return double(as<decltype(zero)>()[i]); });
    }
};

// The weights of one layer (an absent bias is nullopt) and what algorithms have packed of them,
// kept by name so that plans for several input shapes share one packed copy. Safe to use from any
// thread.
class WeightSet {
  public:
    explicit WeightSet(std::vector<std::optional<Constant>> weights)
        : weights_(std::move(weights)) {}

    // A weight and, where it has one, its bias, of which only the shapes are known: for a problem
    // that is computed with the weights of another.
    static WeightSet of_shapes(DType dtype, Shape weight, std::optional<Shape> bias) {
        std::vector<std::optional<Constant>> weights{Constant{{dtype, std::move(weight)}, {}, {}}};
        if (bias) weights.push_back(Constant{{dtype, std::move(*bias)}, {}, {}});
        return WeightSet(std::move(weights));
    }

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
                                         const std::function<void(Buffer&)>& fill) const;
    std::size_t packed_bytes() const;

    // `set` itself or, where some of it is bfloat16, its copy in float32, made when it is first
    // asked for; exact where what was rounded is kept.
    static std::shared_ptr<const WeightSet> widened(std::shared_ptr<const WeightSet> set);

  private:
    std::vector<std::optional<Constant>> weights_;
    mutable std::mutex mutex_;
    mutable std::shared_ptr<const WeightSet> widened_;
    mutable std::map<std::string, std::shared_ptr<const Buffer>> packed_;
};

// Calls f(weight, bias) with pointers to what they are for arrays of type T: T or, where that is
// bfloat16, float as well.
template <typename T, typename F>
void with_weights(const WeightSet& weights, F&& f) {
    const auto typed = [&](std::size_t i, auto&& g) {
        if constexpr (std::is_same_v<T, bfloat16>)
            if (const Constant* weight = weights.get(i); weight && weight->spec.dtype == DType::f32)
                return g(weights.data<float>(i));
        g(weights.data<T>(i));
    };
    typed(0, [&](const auto* weight) { typed(1, [&](const auto* bias) { f(weight, bias); }); });
}

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
    bool takes_bfloat16() const override {
        return requires { P::moves; };
    }
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

    // The algorithm that is estimated to do it the quickest, `otherwise` where none has a cost.
    std::string_view cheapest(const P& problem, std::string_view otherwise) const {
        const auto ranked = ranking([&](const NamedAlgorithm& algorithm) {
            return algorithm.elected() ? cost(algorithm, problem)
                                       : std::numeric_limits<double>::infinity();
        });
        return ranked.empty() ? otherwise : ranked.front().first;
    }

    static const Algorithm<P>& typed(const NamedAlgorithm& algorithm) {
        return static_cast<const Algorithm<P>&>(algorithm);
    }
    // Infinite also where the algorithm cannot do it, and for those of no type, which `Problem`
    // asks.
    static double cost(const NamedAlgorithm& algorithm, const P& problem) {
        if (algorithm.external()) return std::numeric_limits<double>::infinity();
        return typed(algorithm).refusal(problem).empty() ? typed(algorithm).cost(problem)
                                                         : std::numeric_limits<double>::infinity();
    }

  private:
    Registry() : AlgorithmTable(P::op) {}
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

// A problem whose type is not known statically; what the bindings and the executor hold. The names
// of algorithms may be "default" and, where the operation has it, "guess".
class Problem {
  public:
    Problem(const AlgorithmTable& algorithms, std::vector<Spec> inputs,
            std::shared_ptr<const WeightSet> weights, Attributes attributes, int threads)
        : algorithms_(algorithms),
          inputs_(std::move(inputs)),
          weights_(std::move(weights)),
          attributes_(std::move(attributes)),
          threads_(threads) {}
    virtual ~Problem() = default;

    std::string_view op() const { return algorithms_.op(); }
    const std::vector<Spec>& inputs() const { return inputs_; }
    const std::shared_ptr<const WeightSet>& shared_weights() const { return weights_; }
    const Attributes& attributes() const { return attributes_; }
    int threads() const { return threads_; }
    virtual Spec output() const = 0;
    virtual void reference(const void* const* inputs, void* output) const = 0;

    // The name behind "default", "guess" or "default bf16" for this problem; any other name stands
    // for itself.
    std::string resolve(std::string_view algorithm) const;
    // The algorithms that can do it by their estimated cost, in cycles, the least first.
    std::vector<std::pair<std::string, double>> ranking() const;
    std::string refusal(std::string_view algorithm) const;
    // The estimate for one algorithm; infinite where there is none.
    double cost(std::string_view algorithm) const;
    // Whether the algorithm computes with what is bfloat16 itself, not by way of float32.
    virtual bool takes_bfloat16(std::string_view) const { return false; }
    // Whether passes may fuse the problem with others when this algorithm does it.
    bool fusible(std::string_view algorithm) const;
    std::size_t workspace_bytes(std::string_view algorithm) const;
    std::unique_ptr<Plan> plan(std::string_view algorithm) const;

  protected:
    const WeightSet& weights() const { return *weights_; }
    bool empty() const { return elements(output().shape) == 0; }

    const AlgorithmTable& algorithms() const { return algorithms_; }

  private:
    friend class MixedProblem;  // which asks others
    friend class InBfloat16;

    // What algorithm and problem, both of the operation's type, answer together.
    virtual std::string_view choose() const = 0;
    virtual std::string_view guess() const = 0;  // empty where the operation has none
    virtual double cost_of(const NamedAlgorithm&) const = 0;
    virtual std::string refusal_of(const NamedAlgorithm&) const = 0;
    virtual std::size_t workspace_of(const NamedAlgorithm&) const = 0;
    virtual std::unique_ptr<Plan> plan_of(const NamedAlgorithm&) const = 0;

    // Whether what is asked of External algorithms is asked of another problem.
    virtual bool asks_another() const { return false; }

    const NamedAlgorithm& at(std::string_view algorithm) const;
    const External* external(const NamedAlgorithm& algorithm) const {
        return asks_another() ? nullptr : algorithm.external();
    }
    std::size_t workspace_of_any(const NamedAlgorithm&) const;
    std::unique_ptr<Plan> plan_of_any(const NamedAlgorithm&) const;
    std::string refusal_of_any(const NamedAlgorithm&) const;
    double cost_of_any(const NamedAlgorithm&) const;

    const AlgorithmTable& algorithms_;
    const std::vector<Spec> inputs_;
    const std::shared_ptr<const WeightSet> weights_;
    const Attributes attributes_;
    const int threads_;
};

class Operation {
  public:
    struct Traits {
        bool guesses, takes_layouts, takes_dtypes, takes_bfloat16;
        std::size_t factors;
    };

    Operation(AlgorithmTable& algorithms, const Traits& traits);
    virtual ~Operation() = default;

    std::string_view name() const { return algorithms_.op(); }
    const Traits& traits() const { return traits_; }
    std::vector<std::string> algorithms() const;
    std::unique_ptr<Problem> problem(std::vector<Spec> inputs,
                                     std::shared_ptr<const WeightSet> weights,
                                     Attributes attributes, int threads) const;
    // For algorithms that come while the program runs; names of built-in ones are refused.
    void add(AlgorithmTable::Pointer algorithm) const;
    void remove(std::string_view name) const;

    static const std::map<std::string, const Operation*, std::less<>>& all();

  private:
    virtual std::unique_ptr<Problem> make(std::vector<Spec> inputs,
                                          std::shared_ptr<const WeightSet> weights,
                                          Attributes attributes, int threads) const = 0;

    AlgorithmTable& algorithms_;
    const Traits traits_;
};

template <typename P>
class OperationOf final : public Operation {
  public:
    OperationOf()
        : Operation(Registry<P>::instance(),
                    {guesses, requires { P::takes_layouts; }, requires { P::takes_dtypes; },
                     requires { P::takes_bfloat16; } || requires { P::moves; }, factors()}) {}

  private:
    static constexpr bool guesses = requires(const P& problem) { P::guess(problem); };
    static constexpr std::size_t factors() {
        if constexpr (requires { P::factors; }) return P::factors;
        return 0;
    }

    class Typed final : public Problem {
      public:
        Typed(std::vector<Spec> inputs, std::shared_ptr<const WeightSet> weights,
              Attributes attributes, int threads)
            : Problem(Registry<P>::instance(), std::move(inputs), std::move(weights),
                      std::move(attributes), threads),
              problem_(this->inputs(), this->weights(), this->attributes(), threads) {}

        Spec output() const override { return problem_.output(); }
        void reference(const void* const* inputs, void* output) const override {
            if (!empty()) problem_.reference(inputs, weights(), output);
        }

      private:
        std::string_view choose() const override { return P::choose(problem_); }
        std::string_view guess() const override {
            if constexpr (guesses) return P::guess(problem_);
            return {};
        }
        double cost_of(const NamedAlgorithm& algorithm) const override {
            return Registry<P>::cost(algorithm, problem_);
        }
        std::string refusal_of(const NamedAlgorithm& algorithm) const override {
            return Registry<P>::typed(algorithm).refusal(problem_);
        }
        std::size_t workspace_of(const NamedAlgorithm& algorithm) const override {
            return Registry<P>::typed(algorithm).workspace_bytes(problem_);
        }
        std::unique_ptr<Plan> plan_of(const NamedAlgorithm& algorithm) const override {
            return Registry<P>::typed(algorithm).plan(problem_, weights());
        }

        P problem_;
    };

    std::unique_ptr<Problem> make(std::vector<Spec> inputs,
                                  std::shared_ptr<const WeightSet> weights, Attributes attributes,
                                  int threads) const override {
        return std::make_unique<Typed>(std::move(inputs), std::move(weights), std::move(attributes),
                                       threads);
    }
};

}  // namespace ai3
