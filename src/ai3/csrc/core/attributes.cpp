#include "core/attributes.hpp"

namespace ai3 {

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
