#include "core/mixed.hpp"

#include "core/measured.hpp"
#include "kernels/convert.hpp"

namespace ai3 {

void require_weights_of(std::string_view op, DType input, const WeightSet& weights) {
    for (std::size_t i = 0; i < weights.size(); ++i)
        if (const Constant* weight = weights.get(i)) {
            const DType dtype = weight->spec.dtype;
            if (!goes_with(dtype, input))
                throw std::invalid_argument(std::string(op) + ": input is " +
                                            std::string(name_of(input)) + " but the weights are " +
                                            std::string(name_of(dtype)));
        }
}

namespace {

bool any_narrow(const std::vector<Spec>& inputs) {
    return std::any_of(inputs.begin(), inputs.end(),
                       [](const Spec& input) { return input.dtype == DType::bf16; });
}
bool any_narrow(const WeightSet& weights) {
    for (std::size_t i = 0; i < weights.size(); ++i)
        if (const Constant* weight = weights.get(i); weight && weight->spec.dtype == DType::bf16)
            return true;
    return false;
}

// Weights in float32, without the elements of those that are bfloat16.
std::shared_ptr<const WeightSet> widened_shapes(const std::shared_ptr<const WeightSet>& set) {
    if (!any_narrow(*set)) return set;
    std::vector<std::optional<Constant>> weights;
    for (std::size_t i = 0; i < set->size(); ++i) {
        const Constant* weight = set->get(i);
        weights.push_back(weight ? std::optional(*weight) : std::nullopt);
        if (weight && weight->spec.dtype == DType::bf16)
            weights.back() = Constant{{DType::f32, weight->spec.shape}, nullptr, nullptr};
    }
    return std::make_shared<const WeightSet>(std::move(weights));
}

}  // namespace

bool only_weights_narrow(const std::vector<Spec>& inputs, const WeightSet& weights) {
    return any_narrow(weights) && !any_narrow(inputs);
}

bool is_mixed(const std::vector<Spec>& inputs, const WeightSet& weights,
              const Attributes& attributes) {
    return any_narrow(inputs) || any_narrow(weights) || attributes.has(output_dtype);
}

std::vector<Spec> widened(std::vector<Spec> inputs) {
    for (Spec& input : inputs)
        if (input.dtype == DType::bf16) input.dtype = DType::f32;
    return inputs;
}

DType output_dtype_of(const Attributes& attributes, DType otherwise) {
    if (!attributes.has(output_dtype)) return otherwise;
    const std::string name = attributes.text(output_dtype, "");
    for (DType dtype : {DType::f32, DType::bf16})
        if (name == name_of(dtype) && is_real(otherwise) && otherwise != DType::f64) return dtype;
    throw std::invalid_argument(
        "output_dtype chooses float32 or bfloat16 for results of one of these, not " + name +
        " for " + std::string(name_of(otherwise)));
}

MixedProblem::MixedProblem(const AlgorithmTable& algorithms, std::vector<Spec> inputs,
                           std::shared_ptr<const WeightSet> weights, Attributes attributes,
                           int threads, std::unique_ptr<Problem> own, Wide wide)
    : Problem(algorithms, std::move(inputs), std::move(weights), std::move(attributes), threads),
      own_(std::move(own)),
      wide_(wide(widened_shapes(shared_weights()))),
      make_wide_(std::move(wide)),
      output_((own_ ? own_ : wide_)->output()) {
    bool narrow = !own_ && output_.dtype == DType::f32;
    for (const Spec& input : this->inputs()) narrow = narrow && input.dtype != DType::f32;
    output_.dtype = output_dtype_of(this->attributes(), narrow ? DType::bf16 : output_.dtype);
    own_writes_it_ = own_ && own_->output() == output_;
    converted_bytes_ = align_up(this->inputs().size() * sizeof(const void*));
    for (std::size_t i = 0; i < this->inputs().size(); ++i)
        if (this->inputs()[i].dtype == DType::bf16)
            converted_bytes_ += align_up(wide_->inputs()[i].bytes());
    if (output_.dtype == DType::bf16) converted_bytes_ += align_up(wide_->output().bytes());
}

const Problem& MixedProblem::computed_wide() const {
    std::call_once(once_, [&] {
        if (any_narrow(weights()))
            computed_wide_ = make_wide_(WeightSet::widened(shared_weights()));
    });
    return computed_wide_ ? *computed_wide_ : *wide_;
}

// Calls run(inputs, output) with what is bfloat16 converted, in memory of `converted_bytes_`.
template <typename Run>
void MixedProblem::run_wide(const void* const* inputs, void* output, std::byte* memory,
                            Run&& run) const {
    const std::vector<Spec>& specs = this->inputs();
    const auto arrays = reinterpret_cast<const void**>(memory);
    memory += align_up(specs.size() * sizeof(const void*));
    for (std::size_t i = 0; i < specs.size(); ++i) {
        arrays[i] = inputs[i];
        if (specs[i].dtype != DType::bf16) continue;
        convert(static_cast<const bfloat16*>(inputs[i]), reinterpret_cast<float*>(memory),
                specs[i].held(), threads());
        arrays[i] = memory;
        memory += align_up(wide_->inputs()[i].bytes());
    }
    if (output_.dtype != DType::bf16) return run(arrays, output);
    run(arrays, memory);
    convert(reinterpret_cast<const float*>(memory), static_cast<bfloat16*>(output), output_.held(),
            threads());
}

void MixedProblem::reference(const void* const* inputs, void* output) const {
    Buffer memory(converted_bytes_);
    run_wide(inputs, output, memory.data(),
             [&](const void* const* arrays, void* out) { computed_wide().reference(arrays, out); });
}

std::string_view MixedProblem::choose() const {
    const auto ranked = algorithms().ranking([&](const NamedAlgorithm& algorithm) {
        return algorithm.elected() ? cost_of_any(algorithm)
                                   : std::numeric_limits<double>::infinity();
    });
    return ranked.empty() ? wide_->choose() : ranked.front().first;
}

std::string_view MixedProblem::guess() const {
    return wide_->guess().empty() ? std::string_view{} : choose();
}

double MixedProblem::cost_of(const NamedAlgorithm& algorithm) const {
    const Problem& done = done_by(algorithm);
    if (&done == own_.get()) return own_->cost_of(algorithm);
    constexpr double bytes_a_cycle = 16;
    return wide_->cost_of_any(algorithm) + double(converted_bytes_) / bytes_a_cycle / threads();
}

std::string MixedProblem::refusal_of(const NamedAlgorithm& algorithm) const {
    return done_by(algorithm).refusal_of_any(algorithm);
}

std::size_t MixedProblem::workspace_of(const NamedAlgorithm& algorithm) const {
    const Problem& done = done_by(algorithm);
    return done.workspace_of_any(algorithm) + (&done == wide_.get() ? converted_bytes_ : 0);
}

std::unique_ptr<Plan> MixedProblem::plan_of(const NamedAlgorithm& algorithm) const {
    const Problem& done = done_by(algorithm);
    if (&done == own_.get()) return own_->plan_of(algorithm);
    // The plan lives no longer than the problem, see Planned.
    return make_plan([this, plan = std::shared_ptr<Plan>(computed_wide().plan_of_any(algorithm))](
                         const void* const* inputs, void* output, std::byte* workspace) {
        run_wide(inputs, output, workspace, [&](const void* const* arrays, void* out) {
            plan->run(arrays, out, workspace + converted_bytes_);
        });
    });
}

std::optional<InBfloat16> InBfloat16::of(const Problem& problem, std::string_view algorithm) {
    if (!is_name(algorithm)) return std::nullopt;
    const Operation& operation = *Operation::all().find(problem.op())->second;
    const std::vector<std::string> known = operation.algorithms();
    if (std::find(known.begin(), known.end(), algorithm) == known.end())
        throw std::invalid_argument(std::string(problem.op()) + " has no algorithm '" +
                                    std::string(algorithm) + "'");
    InBfloat16 made;
    made.algorithm_ = algorithm.substr(0, algorithm.size() - std::string_view(in_bfloat16).size());
    made.factors_ = operation.traits().factors;
    std::vector<Spec> inputs = problem.inputs();
    made.rounded_bytes_ = align_up(inputs.size() * sizeof(const void*));
    for (std::size_t i = 0; i < std::min(made.factors_, inputs.size()); ++i) {
        if (inputs[i].dtype != DType::f32) {
            made.refusal_ = "it rounds float32 to bfloat16, and this is " +
                            std::string(name_of(inputs[i].dtype));
            return made;
        }
        inputs[i].dtype = DType::bf16;
        made.rounded_bytes_ += align_up(inputs[i].bytes());
    }
    Attributes attributes = problem.attributes();
    if (!attributes.has(output_dtype)) attributes.set(output_dtype, "float32");
    made.narrow_ = operation.problem(std::move(inputs), problem.shared_weights(),
                                     std::move(attributes), problem.threads());
    const AlgorithmTable& table = made.narrow_->algorithms();
    if (made.algorithm_ == "default") {
        const Known times(problem);
        const auto ranked = table.ranking([&](const NamedAlgorithm& known) {
            return known.takes_bfloat16() && known.elected()
                       ? times.cycles(std::string(known.name()) + in_bfloat16,
                                      made.narrow_->cost_of(known))
                       : std::numeric_limits<double>::infinity();
        });
        made.algorithm_ = ranked.empty() ? "direct" : ranked.front().first;
    }
    made.refusal_ = made.narrow_->refusal(made.algorithm_);
    return made;
}

double InBfloat16::cost() const {
    return refusal_.empty() ? narrow_->cost(algorithm_) : std::numeric_limits<double>::infinity();
}

std::size_t InBfloat16::workspace_bytes() const {
    return rounded_bytes_ + narrow_->workspace_bytes(algorithm_);
}

std::unique_ptr<Plan> InBfloat16::plan() && {
    std::shared_ptr<const Problem> narrow = std::move(narrow_);
    const std::shared_ptr<const Plan> plan = narrow->plan(algorithm_);
    return make_plan([narrow, plan, factors = factors_, rounded = rounded_bytes_](
                         const void* const* inputs, void* output, std::byte* workspace) {
        const auto arrays = reinterpret_cast<const void**>(workspace);
        std::byte* memory = workspace + align_up(narrow->inputs().size() * sizeof(const void*));
        for (std::size_t i = 0; i < narrow->inputs().size(); ++i) {
            arrays[i] = inputs[i];
            if (i >= factors) continue;
            const Spec& spec = narrow->inputs()[i];
            convert(static_cast<const float*>(inputs[i]), reinterpret_cast<bfloat16*>(memory),
                    spec.held(), narrow->threads());
            arrays[i] = memory;
            memory += align_up(spec.bytes());
        }
        plan->run(arrays, output, workspace + rounded);
    });
}

}  // namespace ai3
