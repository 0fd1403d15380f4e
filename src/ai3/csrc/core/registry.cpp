#include "core/registry.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

namespace ai3 {

void AlgorithmTable::add(Pointer algorithm) {
    std::lock_guard lock(mutex_);
    Pointer& slot = algorithms_[std::string(algorithm->name())];
    if (slot) replaced_.push_back(std::move(slot));
    slot = std::move(algorithm);
}

void AlgorithmTable::remove(std::string_view name) {
    std::lock_guard lock(mutex_);
    const auto found = algorithms_.find(name);
    if (found == algorithms_.end()) return;
    replaced_.push_back(std::move(found->second));
    algorithms_.erase(found);
}

void AlgorithmTable::derive(const AlgorithmTable& source,
                            std::function<Pointer(const NamedAlgorithm&)> make) {
    source_ = &source;
    make_ = std::move(make);
}

std::vector<std::string> AlgorithmTable::names() const {
    std::set<std::string> names;
    if (source_)
        for (const std::string& name : source_->names())
            if (!source_->at(name).external()) names.insert(name);
    std::lock_guard lock(mutex_);
    for (const auto& [name, algorithm] : algorithms_) names.insert(name);
    return {names.begin(), names.end()};
}

std::vector<const NamedAlgorithm*> AlgorithmTable::added() const {
    std::lock_guard lock(mutex_);
    std::vector<const NamedAlgorithm*> found;
    for (const auto& [name, algorithm] : algorithms_)
        if (!algorithm->built_in()) found.push_back(algorithm.get());
    return found;
}

const NamedAlgorithm& AlgorithmTable::at(std::string_view name) const {
    std::lock_guard lock(mutex_);
    auto found = algorithms_.find(name);
    if (found == algorithms_.end() && source_)
        if (const NamedAlgorithm& source = source_->at(name); !source.external())
            found = algorithms_.emplace(name, make_(source)).first;
    if (found == algorithms_.end())
        throw std::invalid_argument(std::string(op_) + " has no algorithm '" + std::string(name) +
                                    "'");
    return *found->second;
}

std::vector<std::pair<std::string_view, double>> AlgorithmTable::ranking(
    const std::function<double(const NamedAlgorithm&)>& cost) const {
    if (source_)
        for (const std::string& name : names()) at(name);  // makes those that are derived
    std::vector<const NamedAlgorithm*> known;
    {
        std::lock_guard lock(mutex_);
        known.reserve(algorithms_.size());
        for (const auto& [name, algorithm] : algorithms_) known.push_back(algorithm.get());
    }
    std::vector<std::pair<std::string_view, double>> ranked;
    for (const NamedAlgorithm* algorithm : known) {
        const double cycles = cost(*algorithm);
        if (std::isfinite(cycles)) ranked.emplace_back(algorithm->name(), cycles);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.second < b.second; });
    return ranked;
}

}  // namespace ai3
