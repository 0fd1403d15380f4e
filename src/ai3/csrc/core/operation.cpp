#include "core/operation.hpp"

#include <cmath>

#include "core/external.hpp"

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
    if (algorithm == "default") {
        std::string_view chosen = choose();
        double least = std::numeric_limits<double>::infinity();
        for (const External* external : algorithms_.externals()) {
            const double cycles = cost_of_any(*external);
            if (!std::isfinite(cycles)) continue;
            if (std::isinf(least)) least = cost_of(algorithms_.at(chosen));
            if (cycles < least) least = cycles, chosen = external->name();
        }
        return std::string(chosen);
    }
    if (algorithm == "guess")
        if (const std::string_view guessed = guess(); !guessed.empty()) return std::string(guessed);
    return std::string(algorithm);
}

std::vector<std::pair<std::string, double>> Problem::ranking() const {
    const auto ranked = algorithms_.ranking(
        [&](const NamedAlgorithm& algorithm) { return cost_of_any(algorithm); });
    return {ranked.begin(), ranked.end()};
}

std::string Problem::refusal(std::string_view algorithm) const {
    return refusal_of_any(at(algorithm));
}

std::string Problem::refusal_of_any(const NamedAlgorithm& algorithm) const {
    const External* external = algorithm.external();
    if (!external) return refusal_of(algorithm);
    bool dense = output().layout == Layout::dense;
    for (const Spec& input : inputs_) dense = dense && input.layout == Layout::dense;
    return dense ? external->refusal(*this) : "it takes dense arrays";
}

double Problem::cost_of_any(const NamedAlgorithm& algorithm) const {
    const External* external = algorithm.external();
    if (!external) return cost_of(algorithm);
    return refusal_of_any(algorithm).empty() ? external->cost(*this)
                                             : std::numeric_limits<double>::infinity();
}

std::size_t Problem::workspace_bytes(std::string_view algorithm) const {
    if (empty()) return 0;
    const NamedAlgorithm& chosen = at(algorithm);
    return chosen.external() ? chosen.external()->workspace_bytes(*this) : workspace_of(chosen);
}

std::unique_ptr<Plan> Problem::plan(std::string_view algorithm) const {
    const NamedAlgorithm& chosen = at(algorithm);
    if (const std::string reason = refusal_of_any(chosen); !reason.empty())
        throw std::invalid_argument(std::string(op()) + ": '" + std::string(chosen.name()) +
                                    "' cannot do this: " + reason);
    if (empty()) return make_plan([](const void* const*, void*, std::byte*) {});
    return chosen.external() ? chosen.external()->plan(*this) : plan_of(chosen);
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

Operation::Operation(AlgorithmTable& algorithms, bool guesses, bool takes_layouts,
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

void Operation::add(AlgorithmTable::Pointer algorithm) const {
    const std::string added(algorithm->name());
    for (const std::string& known : algorithms())
        if (known == added &&
            (known == "default" || known == "guess" || !algorithms_.at(known).external()))
            throw std::invalid_argument(std::string(name()) + " has an algorithm '" + added +
                                        "' of its own: give yours another name");
    algorithms_.add(std::move(algorithm));
}

void Operation::remove(std::string_view removed) const {
    if (!algorithms_.at(removed).external())
        throw std::invalid_argument("'" + std::string(removed) + "' of " + std::string(name()) +
                                    " is built in");
    algorithms_.remove(removed);
}

std::unique_ptr<Problem> Operation::problem(std::vector<Spec> inputs,
                                            std::shared_ptr<const WeightSet> weights,
                                            Attributes attributes, int threads) const {
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
    return make(std::move(inputs), std::move(weights), std::move(attributes), threads);
}

}  // namespace ai3
