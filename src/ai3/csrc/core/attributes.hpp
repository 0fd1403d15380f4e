// The hyper-parameters of an operation as they come from outside: names with plain values.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "core/tensor.hpp"

namespace ai3 {

// Every getter throws std::invalid_argument with the attribute's name where the value does not fit.
class Attributes {
  public:
    using Value = std::variant<std::monostate, bool, Index, double, std::string, std::vector<Index>,
                               std::vector<double>>;

    Attributes() = default;
    explicit Attributes(std::map<std::string, Value> values) : values_(std::move(values)) {}

    void set(const std::string& name, Value value) { values_[name] = std::move(value); }

    bool has(const std::string& name) const {
        auto found = values_.find(name);
        return found != values_.end() && !std::holds_alternative<std::monostate>(found->second);
    }

    Index integer(const std::string& name, Index otherwise) const {
        if (!has(name)) return otherwise;
        if (auto* value = std::get_if<Index>(&values_.at(name))) return *value;
        throw wrong(name, "an integer");
    }

    double real(const std::string& name, double otherwise) const {
        if (!has(name)) return otherwise;
        if (auto* value = std::get_if<double>(&values_.at(name))) return *value;
        if (auto* value = std::get_if<Index>(&values_.at(name))) return double(*value);
        throw wrong(name, "a number");
    }

    bool flag(const std::string& name, bool otherwise) const {
        if (!has(name)) return otherwise;
        if (auto* value = std::get_if<bool>(&values_.at(name))) return *value;
        throw wrong(name, "True or False");
    }

    std::string text(const std::string& name, const std::string& otherwise) const {
        if (!has(name)) return otherwise;
        if (auto* value = std::get_if<std::string>(&values_.at(name))) return *value;
        throw wrong(name, "a string");
    }

    bool is_text(const std::string& name) const {
        return has(name) && std::holds_alternative<std::string>(values_.at(name));
    }

    // A list of `count` integers; a single integer stands for all of them.
    std::vector<Index> integers(const std::string& name, std::size_t count,
                                const std::vector<Index>& otherwise) const {
        if (!has(name)) return otherwise;
        const Value& value = values_.at(name);
        if (auto* one = std::get_if<Index>(&value)) return std::vector<Index>(count, *one);
        if (auto* list = std::get_if<std::vector<Index>>(&value)) {
            if (list->size() == count) return *list;
            if (list->size() == 1) return std::vector<Index>(count, list->front());
        }
        throw wrong(name, "an integer or " + std::to_string(count) + " integers");
    }

    // The same of numbers, for an attribute that there is.
    std::vector<double> reals(const std::string& name, std::size_t count) const {
        if (auto* list = std::get_if<std::vector<double>>(&values_.at(name))) {
            if (list->size() == count) return *list;
            if (list->size() == 1) return std::vector<double>(count, list->front());
            throw wrong(name, "a number or " + std::to_string(count) + " numbers");
        }
        if (std::holds_alternative<std::vector<Index>>(values_.at(name))) {
            const auto list = integers(name, count, {});
            return {list.begin(), list.end()};
        }
        return std::vector<double>(count, real(name, 0));
    }

    std::size_t count(const std::string& name) const {
        if (!has(name)) return 0;
        auto* list = std::get_if<std::vector<Index>>(&values_.at(name));
        return list ? list->size() : 1;
    }

    const std::map<std::string, Value>& values() const { return values_; }

  private:
    static std::invalid_argument wrong(const std::string& name, const std::string& wanted) {
        return std::invalid_argument(name + " must be " + wanted);
    }

    std::map<std::string, Value> values_;
};

std::string to_string(const Attributes& attributes);

}  // namespace ai3
