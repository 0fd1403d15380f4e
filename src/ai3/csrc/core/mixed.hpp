// Problems of which some arrays are bfloat16.
#pragma once

#include <mutex>

#include "core/operation.hpp"

namespace ai3 {

// The attribute of any operation that names the dtype of its result, float32 or bfloat16.
constexpr const char* output_dtype = "output_dtype";

// What it says, `otherwise` where it is absent. Throws std::invalid_argument for other dtypes.
DType output_dtype_of(const Attributes& attributes, DType otherwise);

// Whether weights are of the input's dtype or, for an input in bfloat16, float32.
constexpr bool goes_with(DType weight, DType input) {
    return weight == input || (weight == DType::f32 && input == DType::bf16);
}

// Throws std::invalid_argument unless all weights go with the input.
void require_weights_of(std::string_view op, DType input, const WeightSet& weights);

// Whether weights are bfloat16 and no input is.
bool only_weights_narrow(const std::vector<Spec>& inputs, const WeightSet& weights);

// Whether inputs or weights are bfloat16, or the attribute is given.
bool is_mixed(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes);

// The same, with float32 for bfloat16.
std::vector<Spec> widened(std::vector<Spec> inputs);

// Done by algorithms that know bfloat16, unless they refuse it, as the operation's type describes
// it and, by the others, in float32: what is bfloat16 is converted before and after. Where only
// weights are, all algorithms are given float32. Without `output_dtype` the output is as the
// operation's type says or, if that does not know bfloat16, bfloat16 where it were float32 and no
// input is float32.
class MixedProblem final : public Problem {
  public:
    // Makes the problem in float32 with weights in float32.
    using Wide = std::function<std::unique_ptr<Problem>(std::shared_ptr<const WeightSet>)>;

    // `own` is the problem of the operation's type, null where the type does not know bfloat16.
    MixedProblem(const AlgorithmTable& algorithms, std::vector<Spec> inputs,
                 std::shared_ptr<const WeightSet> weights, Attributes attributes, int threads,
                 std::unique_ptr<Problem> own, Wide wide);

    Spec output() const override { return output_; }
    void reference(const void* const* inputs, void* output) const override;
    bool takes_bfloat16(std::string_view algorithm) const override {
        const NamedAlgorithm& found = algorithms().at(resolve(algorithm));
        return own_ && &done_by(found) == own_.get();
    }

  private:
    bool asks_another() const override { return true; }
    std::string_view choose() const override;
    std::string_view guess() const override;
    double cost_of(const NamedAlgorithm&) const override;
    std::string refusal_of(const NamedAlgorithm&) const override;
    std::size_t workspace_of(const NamedAlgorithm&) const override;
    std::unique_ptr<Plan> plan_of(const NamedAlgorithm&) const override;

    const Problem& done_by(const NamedAlgorithm& algorithm) const {
        return own_writes_it_ && algorithm.takes_bfloat16() && own_->refusal_of(algorithm).empty()
                   ? *own_
                   : *wide_;
    }
    template <typename Run>
    void run_wide(const void* const* inputs, void* output, std::byte* memory, Run&& run) const;

    // The problem in float32 with its weights, of which `wide_` has only the shapes: most problems
    // are asked, and never planned in float32.
    const Problem& computed_wide() const;

    std::unique_ptr<Problem> own_, wide_;
    Wide make_wide_;
    mutable std::once_flag once_;
    mutable std::unique_ptr<Problem> computed_wide_;
    Spec output_;
    bool own_writes_it_;  // else the type does not know the attribute
    // Of pointers to arrays, and of those that are bfloat16 in float32.
    std::size_t converted_bytes_;
};

// What follows the name of an algorithm that is to compute in bfloat16.
constexpr const char* in_bfloat16 = " bf16";

// A problem in float32 that is done by an algorithm of the problem in bfloat16: what is multiplied
// is rounded to it, and the output is float32.
class InBfloat16 {
  public:
    static bool is_name(std::string_view algorithm) { return algorithm.ends_with(in_bfloat16); }
    // Nothing for a name of no such algorithm. For "default bf16" the one of the least cost.
    static std::optional<InBfloat16> of(const Problem& problem, std::string_view algorithm);

    std::string name() const { return algorithm_ + in_bfloat16; }
    std::string refusal() const { return refusal_; }
    double cost() const;
    std::size_t workspace_bytes() const;
    std::unique_ptr<Plan> plan() &&;

  private:
    InBfloat16() = default;

    std::string algorithm_, refusal_;
    std::unique_ptr<Problem> narrow_;  // null where the problem is refused
    std::size_t factors_ = 0;
    std::size_t rounded_bytes_ = 0;  // of pointers to arrays, and of those that are rounded
};

}  // namespace ai3
