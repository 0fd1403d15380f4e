#include "core/registry.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace ai3 {

void AlgorithmTable::add(Pointer algorithm) {
    const std::string name(algorithm->name());
    algorithms_[name] = std::move(algorithm);
}

void AlgorithmTable::derive(const AlgorithmTable& source,
                            std::function<Pointer(const NamedAlgorithm&)> make) {
    source_ = &source;
    make_ = std::move(make);
}

std::vector<std::string> AlgorithmTable::names() const {
    if (source_) return source_->names();
    std::vector<std::string> names;
    for (const auto& [name, algorithm] : algorithms_) names.push_back(name);
    return names;
}

const NamedAlgorithm& AlgorithmTable::at(std::string_view name) const {
    std::lock_guard lock(mutex_);
    auto found = algorithms_.find(name);
    if (found == algorithms_.end() && source_)
        found = algorithms_.emplace(name, make_(source_->at(name))).first;
    if (found == algorithms_.end())
        throw std::invalid_argument(std::string(op_) + " has no algorithm '" + std::string(name) +
                                    "'");
    return *found->second;
}

std::vector<std::pair<std::string_view, double>> AlgorithmTable::ranking(
    const std::function<double(const NamedAlgorithm&)>& cost) const {
    std::vector<std::pair<std::string_view, double>> ranked;
    for (const std::string& name : names()) {
        const NamedAlgorithm& algorithm = at(name);
        const double cycles = cost(algorithm);
        if (std::isfinite(cycles)) ranked.emplace_back(algorithm.name(), cycles);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.second < b.second; });
    return ranked;
}

}  // namespace ai3
