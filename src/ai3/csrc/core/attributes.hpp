// The hyper-parameters of an operation as they come from outside: names with plain values.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/tensor.hpp"

namespace ai3 {

// Copies share their values, which do not change. Every getter throws std::invalid_argument with
// the attribute's name where the value does not fit.
class Attributes {
  public:
    using Value = std::variant<std::monostate, bool, Index, double, std::string, std::vector<Index>,
                               std::vector<double>>;
    using Map = std::map<std::string, Value, std::less<>>;

    Attributes() : Attributes(Map()) {}
    explicit Attributes(Map values) : values_(std::make_shared<const Map>(std::move(values))) {}

    void set(const std::string& name, Value value);

    Attributes without(const std::string& name) const;

    bool has(std::string_view name) const;
    bool is_text(std::string_view name) const;
    // How many integers an attribute lists; 0 where it is absent.
    std::size_t count(std::string_view name) const;

    Index integer(std::string_view name, Index otherwise) const;
    double real(std::string_view name, double otherwise) const;
    bool flag(std::string_view name, bool otherwise) const;
    std::string text(std::string_view name, const std::string& otherwise) const;
    // A list of `count` integers; a single integer stands for all of them.
    std::vector<Index> integers(std::string_view name, std::size_t count,
                                const std::vector<Index>& otherwise) const;
    // The same of numbers, for an attribute that there is.
    std::vector<double> reals(std::string_view name, std::size_t count) const;

    const Map& values() const { return *values_; }

  private:
    // The value, if it is given and not None.
    const Value* find(std::string_view name) const;

    std::shared_ptr<const Map> values_;
};

std::string to_string(const Attributes& attributes);

}  // namespace ai3
