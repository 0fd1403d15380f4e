#include "core/operation.hpp"

#include <cmath>

#include "core/external.hpp"
#include "core/measured.hpp"
#include "core/mixed.hpp"
#include "kernels/convert.hpp"

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
    if (widened_) {
        total += widened_->packed_bytes();
        for (std::size_t i = 0; i < widened_->size(); ++i)
            if (const Constant* own = widened_->get(i); own && own->data != get(i)->data)
                total += own->spec.bytes();
    }
    return total;
}

std::shared_ptr<const WeightSet> WeightSet::widened(std::shared_ptr<const WeightSet> set) {
    bool narrow = false;
    for (const auto& weight : set->weights_)
        narrow = narrow || (weight && weight->spec.dtype == DType::bf16);
    if (!narrow) return set;
    std::lock_guard lock(set->mutex_);
    if (!set->widened_) {
        std::vector<std::optional<Constant>> weights = set->weights_;
        for (auto& weight : weights) {
            if (!weight || weight->spec.dtype != DType::bf16) continue;
            weight->spec.dtype = DType::f32;
            auto buffer = std::make_shared<Buffer>(weight->spec.bytes());
            if (weight->lower)
                weight->lower->restore(weight->as<bfloat16>(), buffer->as<float>(), 1);
            else if (weight->data)
                convert(weight->as<bfloat16>(), buffer->as<float>(), weight->spec.held(), 1);
            *weight = {weight->spec, buffer->data(), buffer};
        }
        set->widened_ = std::make_shared<const WeightSet>(std::move(weights));
    }
    return set->widened_;
}

const NamedAlgorithm& Problem::at(std::string_view algorithm) const {
    return algorithms_.at(resolve(algorithm));
}

std::string Problem::resolve(std::string_view algorithm) const {
    if (const auto narrow = InBfloat16::of(*this, algorithm)) return narrow->name();
    const bool guesses = algorithm == "guess" && !guess().empty(), any = algorithm == "default";
    const auto added = any ? algorithms_.added() : std::vector<const NamedAlgorithm*>{};
    for (const NamedAlgorithm* own : added)
        if (own->preferred() && refusal_of_any(*own).empty()) return std::string(own->name());
    if (any || guesses)
        if (const Known known(*this); known.any())
            if (const auto ranked = ranking(); !ranked.empty()) return ranked.front().first;
    if (any) {
        std::string_view chosen = choose();
        double least = std::numeric_limits<double>::infinity();
        for (const NamedAlgorithm* own : added) {
            const double cycles = cost_of_any(*own);
            if (!std::isfinite(cycles)) continue;
            if (std::isinf(least)) least = cost_of(algorithms_.at(chosen));
            if (cycles < least) least = cycles, chosen = own->name();
        }
        return std::string(chosen);
    }
    return std::string(guesses ? guess() : algorithm);
}

std::vector<std::pair<std::string, double>> Problem::ranking() const {
    const Known known(*this);
    const auto ranked = algorithms_.ranking([&](const NamedAlgorithm& algorithm) {
        const double cycles =
            algorithm.elected() ? cost_of_any(algorithm) : std::numeric_limits<double>::infinity();
        if (!known.any()) return known.cycles({}, cycles);
        const auto found = known.times().find(algorithm.name());
        const bool unasked = found != known.times().end() && found->second.unasked;
        if (!unasked && std::isinf(cycles)) return cycles;
        return known.cycles(algorithm.name(), cycles);
    });
    return {ranked.begin(), ranked.end()};
}

std::string Problem::refusal(std::string_view algorithm) const {
    if (const auto narrow = InBfloat16::of(*this, algorithm)) return narrow->refusal();
    return refusal_of_any(at(algorithm));
}

double Problem::cost(std::string_view algorithm) const {
    const Known known(*this);
    if (const auto narrow = InBfloat16::of(*this, algorithm))
        return known.any() && known.times().contains(narrow->name())
                   ? known.cycles(narrow->name(), 0)
                   : narrow->cost();
    const NamedAlgorithm& resolved = at(algorithm);
    return known.cycles(resolved.name(), cost_of_any(resolved));
}

bool Problem::fusible(std::string_view algorithm) const {
    return InBfloat16::is_name(algorithm) || at(algorithm).built_in();
}

namespace {

// What is said where another layout is given.
std::string layouts_of(const External& algorithm) {
    std::string names;
    for (const Layout layout : {Layout::dense, Layout::channels_last, Layout::blocked})
        if (algorithm.takes(layout))
            names += (names.empty() ? "" : " and ") + std::string(name_of(layout));
    return "it takes " + names + " arrays";
}

}  // namespace

std::string Problem::refusal_of_any(const NamedAlgorithm& algorithm) const {
    const External* own = external(algorithm);
    if (!own) return refusal_of(algorithm);
    bool fits = own->takes(output().layout);
    for (const Spec& input : inputs_) fits = fits && own->takes(input.layout);
    return fits ? own->refusal(*this) : layouts_of(*own);
}

std::size_t Problem::workspace_of_any(const NamedAlgorithm& algorithm) const {
    const External* own = external(algorithm);
    return own ? own->workspace_bytes(*this) : workspace_of(algorithm);
}

std::unique_ptr<Plan> Problem::plan_of_any(const NamedAlgorithm& algorithm) const {
    const External* own = external(algorithm);
    return own ? own->plan(*this) : plan_of(algorithm);
}

double Problem::cost_of_any(const NamedAlgorithm& algorithm) const {
    const External* own = external(algorithm);
    if (!own) return cost_of(algorithm);
    // Most have no estimate, and need not be asked whether they can do it.
    const double cycles = own->cost(*this);
    return std::isfinite(cycles) && refusal_of_any(algorithm).empty()
               ? cycles
               : std::numeric_limits<double>::infinity();
}

std::size_t Problem::workspace_bytes(std::string_view algorithm) const {
    if (empty()) return 0;
    if (const auto narrow = InBfloat16::of(*this, algorithm)) return narrow->workspace_bytes();
    return workspace_of_any(at(algorithm));
}

std::unique_ptr<Plan> Problem::plan(std::string_view algorithm) const {
    if (const std::string reason = refusal(algorithm); !reason.empty())
        throw std::invalid_argument(std::string(op()) + ": '" + resolve(algorithm) +
                                    "' cannot do this: " + reason);
    if (empty()) return make_plan([](const void* const*, void*, std::byte*) {});
    if (auto narrow = InBfloat16::of(*this, algorithm)) return std::move(*narrow).plan();
    return plan_of_any(at(algorithm));
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

Operation::Operation(AlgorithmTable& algorithms, const Traits& traits)
    : algorithms_(algorithms), traits_(traits) {
    operations().emplace(name(), this);
}

std::vector<std::string> Operation::algorithms() const {
    auto names = algorithms_.names();
    if (traits_.factors) {
        for (const std::string& known : algorithms_.names())
            if (algorithms_.at(known).takes_bfloat16()) names.push_back(known + in_bfloat16);
        names.push_back(std::string("default") + in_bfloat16);
    }
    if (traits_.guesses) names.push_back("guess");
    names.push_back("default");
    return names;
}

void Operation::add(AlgorithmTable::Pointer algorithm) const {
    const std::string added(algorithm->name());
    for (const std::string& known : algorithms())
        if (known == added && (known == "default" || known == "guess" ||
                               InBfloat16::is_name(known) || !algorithms_.at(known).external()))
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
        if (!traits_.takes_layouts && input.layout != Layout::dense)
            throw std::invalid_argument(sentence("input", input, "dense"));
        if (!traits_.takes_dtypes && !is_real(input.dtype))
            throw DTypeError(sentence("input", input, "float32, float64 or bfloat16"));
    }
    for (std::size_t i = 0; i < weights->size(); ++i)
        if (const Constant* weight = weights->get(i); weight && !is_real(weight->spec.dtype))
            throw DTypeError(sentence("weight", weight->spec, "float32, float64 or bfloat16"));
    if (!is_mixed(inputs, *weights, attributes))
        return make(std::move(inputs), std::move(weights), std::move(attributes), threads);
    std::unique_ptr<Problem> own;
    if (traits_.takes_bfloat16 && !only_weights_narrow(inputs, *weights))
        own = make(inputs, weights, attributes, threads);
    auto wide = [this, inputs = widened(inputs), attributes = attributes.without(output_dtype),
                 threads](std::shared_ptr<const WeightSet> weights) {
        return make(inputs, std::move(weights), attributes, threads);
    };
    return std::make_unique<MixedProblem>(algorithms_, std::move(inputs), std::move(weights),
                                          std::move(attributes), threads, std::move(own),
                                          std::move(wide));
}

}  // namespace ai3
