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

    bool has(const std::string& name) const;
    bool is_text(const std::string& name) const;
    // How many integers an attribute lists; 0 where it is absent.
    std::size_t count(const std::string& name) const;

    Index integer(const std::string& name, Index otherwise) const;
    double real(const std::string& name, double otherwise) const;
    bool flag(const std::string& name, bool otherwise) const;
    std::string text(const std::string& name, const std::string& otherwise) const;
    // A list of `count` integers; a single integer stands for all of them.
    std::vector<Index> integers(const std::string& name, std::size_t count,
                                const std::vector<Index>& otherwise) const;
    // The same of numbers, for an attribute that there is.
    std::vector<double> reals(const std::string& name, std::size_t count) const;

    const std::map<std::string, Value>& values() const { return values_; }

  private:
    std::map<std::string, Value> values_;
};

std::string to_string(const Attributes& attributes);

}  // namespace ai3
