#include "core/attributes.hpp"

namespace ai3 {

namespace {

std::invalid_argument wrong(const std::string& name, const std::string& wanted) {
    return std::invalid_argument(name + " must be " + wanted);
}

}  // namespace

bool Attributes::has(const std::string& name) const {
    auto found = values_.find(name);
    return found != values_.end() && !std::holds_alternative<std::monostate>(found->second);
}

bool Attributes::is_text(const std::string& name) const {
    return has(name) && std::holds_alternative<std::string>(values_.at(name));
}

std::size_t Attributes::count(const std::string& name) const {
    if (!has(name)) return 0;
    auto* list = std::get_if<std::vector<Index>>(&values_.at(name));
    return list ? list->size() : 1;
}

Index Attributes::integer(const std::string& name, Index otherwise) const {
    if (!has(name)) return otherwise;
    if (auto* value = std::get_if<Index>(&values_.at(name))) return *value;
    throw wrong(name, "an integer");
}

double Attributes::real(const std::string& name, double otherwise) const {
    if (!has(name)) return otherwise;
    if (auto* value = std::get_if<double>(&values_.at(name))) return *value;
    if (auto* value = std::get_if<Index>(&values_.at(name))) return double(*value);
    throw wrong(name, "a number");
}

bool Attributes::flag(const std::string& name, bool otherwise) const {
    if (!has(name)) return otherwise;
    if (auto* value = std::get_if<bool>(&values_.at(name))) return *value;
    throw wrong(name, "True or False");
}

std::string Attributes::text(const std::string& name, const std::string& otherwise) const {
    if (!has(name)) return otherwise;
    if (auto* value = std::get_if<std::string>(&values_.at(name))) return *value;
    throw wrong(name, "a string");
}

std::vector<Index> Attributes::integers(const std::string& name, std::size_t count,
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

std::vector<double> Attributes::reals(const std::string& name, std::size_t count) const {
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

std::string to_string(const Attributes& attributes) {
    struct Text {
        std::string operator()(std::monostate) const { return "None"; }
        std::string operator()(bool value) const { return value ? "True" : "False"; }
        std::string operator()(Index value) const { return std::to_string(value); }
        std::string operator()(double value) const { return std::to_string(value); }
        std::string operator()(const std::string& value) const { return "'" + value + "'"; }
        std::string operator()(const std::vector<Index>& value) const {
            return ai3::to_string(value);
        }
        std::string operator()(const std::vector<double>& value) const {
            std::string text;
            for (double number : value) text += (text.empty() ? "" : ", ") + std::to_string(number);
            return "(" + text + ")";
        }
    };
    std::string text;
    for (const auto& [name, value] : attributes.values())
        text += (text.empty() ? "" : ", ") + name + "=" + std::visit(Text{}, value);
    return text;
}

}  // namespace ai3
