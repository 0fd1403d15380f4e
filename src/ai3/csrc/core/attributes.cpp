#include "core/attributes.hpp"

namespace ai3 {

namespace {

std::invalid_argument wrong(std::string_view name, const std::string& wanted) {
    return std::invalid_argument(std::string(name) + " must be " + wanted);
}

}  // namespace

void Attributes::set(const std::string& name, Value value) {
    Map changed = *values_;
    changed[name] = std::move(value);
    values_ = std::make_shared<const Map>(std::move(changed));
}

Attributes Attributes::without(const std::string& name) const {
    Map others = *values_;
    others.erase(name);
    return Attributes(std::move(others));
}

const Attributes::Value* Attributes::find(std::string_view name) const {
    const auto found = values_->find(name);
    const bool given =
        found != values_->end() && !std::holds_alternative<std::monostate>(found->second);
    return given ? &found->second : nullptr;
}

bool Attributes::has(std::string_view name) const { return find(name); }

bool Attributes::is_text(std::string_view name) const {
    const Value* value = find(name);
    return value && std::holds_alternative<std::string>(*value);
}

std::size_t Attributes::count(std::string_view name) const {
    const Value* value = find(name);
    if (!value) return 0;
    auto* list = std::get_if<std::vector<Index>>(value);
    return list ? list->size() : 1;
}

Index Attributes::integer(std::string_view name, Index otherwise) const {
    const Value* value = find(name);
    if (!value) return otherwise;
    if (auto* one = std::get_if<Index>(value)) return *one;
    throw wrong(name, "an integer");
}

double Attributes::real(std::string_view name, double otherwise) const {
    const Value* value = find(name);
    if (!value) return otherwise;
    if (auto* number = std::get_if<double>(value)) return *number;
    if (auto* whole = std::get_if<Index>(value)) return double(*whole);
    throw wrong(name, "a number");
}

bool Attributes::flag(std::string_view name, bool otherwise) const {
    const Value* value = find(name);
    if (!value) return otherwise;
    if (auto* set = std::get_if<bool>(value)) return *set;
    throw wrong(name, "True or False");
}

std::string Attributes::text(std::string_view name, const std::string& otherwise) const {
    const Value* value = find(name);
    if (!value) return otherwise;
    if (auto* text = std::get_if<std::string>(value)) return *text;
    throw wrong(name, "a string");
}

std::vector<Index> Attributes::integers(std::string_view name, std::size_t count,
                                        const std::vector<Index>& otherwise) const {
    const Value* value = find(name);
    if (!value) return otherwise;
    if (auto* one = std::get_if<Index>(value)) return std::vector<Index>(count, *one);
    if (auto* list = std::get_if<std::vector<Index>>(value)) {
        if (list->size() == count) return *list;
        if (list->size() == 1) return std::vector<Index>(count, list->front());
    }
    throw wrong(name, "an integer or " + std::to_string(count) + " integers");
}

std::vector<double> Attributes::reals(std::string_view name, std::size_t count) const {
    const Value* value = find(name);
    if (!value) throw wrong(name, "given");
    if (auto* list = std::get_if<std::vector<double>>(value)) {
        if (list->size() == count) return *list;
        if (list->size() == 1) return std::vector<double>(count, list->front());
        throw wrong(name, "a number or " + std::to_string(count) + " numbers");
    }
    if (std::holds_alternative<std::vector<Index>>(*value)) {
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
