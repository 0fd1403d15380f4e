#include "core/operation.hpp"

namespace ai3 {

std::shared_ptr<const Buffer> WeightSet::packed(const std::string& name, std::size_t bytes,
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

std::size_t WeightSet::packed_bytes() const {
    std::lock_guard lock(mutex_);
    std::size_t total = 0;
    for (const auto& [name, buffer] : packed_) total += buffer->size();
    return total;
}

const NamedAlgorithm& Problem::at(std::string_view algorithm) const {
    return algorithms_.at(resolve(algorithm));
}

std::string Problem::resolve(std::string_view algorithm) const {
    if (algorithm == "default") return std::string(choose());
    if (algorithm == "guess")
        if (const std::string_view guessed = guess(); !guessed.empty()) return std::string(guessed);
    return std::string(algorithm);
}

std::vector<std::pair<std::string, double>> Problem::ranking() const {
    const auto ranked =
        algorithms_.ranking([&](const NamedAlgorithm& algorithm) { return cost_of(algorithm); });
    return {ranked.begin(), ranked.end()};
}

std::string Problem::refusal(std::string_view algorithm) const { return refusal_of(at(algorithm)); }

std::size_t Problem::workspace_bytes(std::string_view algorithm) const {
    return empty() ? 0 : workspace_of(at(algorithm));
}

std::unique_ptr<Plan> Problem::plan(std::string_view algorithm) const {
    const NamedAlgorithm& chosen = at(algorithm);
    if (const std::string reason = refusal_of(chosen); !reason.empty())
        throw std::invalid_argument(std::string(op()) + ": '" + std::string(chosen.name()) +
                                    "' cannot do this: " + reason);
    if (empty()) return make_plan([](const void* const*, void*, std::byte*) {});
    return plan_of(chosen);
}

namespace {

std::map<std::string, const Operation*, std::less<>>& operations() {
    static std::map<std::string, const Operation*, std::less<>> all;
    return all;
}

}  // namespace

const std::map<std::string, const Operation*, std::less<>>& Operation::all() {
    return operations();
}

Operation::Operation(const AlgorithmTable& algorithms, bool guesses, bool takes_layouts,
                     bool takes_dtypes)
    : algorithms_(algorithms),
      guesses_(guesses),
      takes_layouts_(takes_layouts),
      takes_dtypes_(takes_dtypes) {
    operations().emplace(name(), this);
}

std::vector<std::string> Operation::algorithms() const {
    auto names = algorithms_.names();
    if (guesses_) names.push_back("guess");
    names.push_back("default");
    return names;
}

std::unique_ptr<Problem> Operation::problem(std::vector<Spec> inputs,
                                            std::shared_ptr<const WeightSet> weights,
                                            const Attributes& attributes, int threads) const {
    const auto sentence = [&](const char* what, const Spec& spec, const char* must) {
        return std::string(name()) + ": the " + what + " " + to_string(spec) + " must be " + must;
    };
    for (const Spec& input : inputs) {
        if (!takes_layouts_ && input.layout != Layout::dense)
            throw std::invalid_argument(sentence("input", input, "dense"));
        if (!takes_dtypes_ && !is_real(input.dtype))
            throw DTypeError(sentence("input", input, "float32 or float64"));
    }
    for (std::size_t i = 0; i < weights->size(); ++i)
        if (const Constant* weight = weights->get(i); weight && !is_real(weight->spec.dtype))
            throw DTypeError(sentence("weight", weight->spec, "float32 or float64"));
    return make(std::move(inputs), std::move(weights), attributes, threads);
}

}  // namespace ai3
