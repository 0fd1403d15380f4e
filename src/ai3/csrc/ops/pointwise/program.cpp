#include "ops/pointwise/program.hpp"

#include <charconv>

namespace ai3 {

namespace {

constexpr std::size_t most_instructions = 1024;

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("pointwise: " + what);
}

enum class Category : std::uint8_t { boolean, integer, real };

Category category(DType dtype) {
    return is_real(dtype)            ? Category::real
           : dtype == DType::boolean ? Category::boolean
                                     : Category::integer;
}

// The larger of two types: bool, uint8, int32, int64, float32, float64.
DType larger(DType a, DType b) {
    const auto rank = [](DType dtype) {
        constexpr DType order[] = {DType::boolean, DType::u8,  DType::i32,
                                   DType::i64,     DType::f32, DType::f64};
        return std::find(std::begin(order), std::end(order), dtype) - std::begin(order);
    };
    return rank(a) < rank(b) ? b : a;
}

ValueType promoted(ValueType a, ValueType b) {
    if (a.weight == b.weight) return {larger(a.dtype, b.dtype), a.weight};
    if (a.weight < b.weight) std::swap(a, b);
    return {category(a.dtype) < category(b.dtype) ? b.dtype : a.dtype, a.weight};
}

class Parser {
  public:
    Parser(const std::string& text, const std::vector<Spec>& inputs) : text_(text) {
        for (const Spec& input : inputs)
            inputs_.push_back({input.dtype, input.shape.empty() ? Weight::scalar : Weight::array});
    }

    std::vector<Instruction> run() {
        do {
            if (made_.size() == most_instructions)
                fail("has more than " + std::to_string(most_instructions) + " instructions");
            made_.push_back(instruction());
        } while (accepts(';'));
        if (at_ != text_.size()) fail("has more after its last instruction");
        return std::move(made_);
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        refuse("the program '" + text_ + "' " + what + " (character " + std::to_string(at_) + ")");
    }

    void skip_spaces() {
        while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    }
    bool accepts(char sign) {
        skip_spaces();
        if (at_ == text_.size() || text_[at_] != sign) return false;
        ++at_;
        return true;
    }
    void expect(char sign) {
        if (!accepts(sign)) fail(std::string("lacks a '") + sign + "'");
    }
    std::string word() {
        skip_spaces();
        const std::size_t begin = at_;
        while (at_ < text_.size() &&
               std::string_view("(),; ").find(text_[at_]) == std::string::npos)
            ++at_;
        if (at_ == begin) fail("lacks a name or number");
        return text_.substr(begin, at_ - begin);
    }

    ValueType type_of(const Operand& operand) const {
        switch (operand.from) {
            case Operand::From::input:
                return inputs_[operand.index];
            case Operand::From::result:
                return made_[operand.index].type;
            case Operand::From::number:
                break;
        }
        return {DType(operand.index), Weight::number};
    }

    // A number keeps its dtype in `index`.
    Operand operand() {
        const std::string name = word();
        const auto numbered = [&](char prefix, std::size_t count, Operand::From from) {
            Operand found{from};
            const auto [end, error] =
                std::from_chars(name.data() + 1, name.data() + name.size(), found.index);
            if (error != std::errc() || end != name.data() + name.size() || found.index >= count)
                fail(std::string("reads ") + name + ", but has " + std::to_string(count) + " " +
                     (prefix == 'x' ? "inputs" : "results by then"));
            return found;
        };
        if (name[0] == 'x') return numbered('x', inputs_.size(), Operand::From::input);
        if (name[0] == 't') return numbered('t', made_.size(), Operand::From::result);
        Operand number;
        if (name == "True" || name == "False") {
            number.integer = name == "True";
            number.real = double(number.integer);
            number.index = std::size_t(DType::boolean);
            return number;
        }
        const char *begin = name.data(), *stop = begin + name.size();
        if (const auto [end, error] = std::from_chars(begin, stop, number.integer);
            error == std::errc() && end == stop) {
            number.real = double(number.integer);
            number.index = std::size_t(DType::i64);
            return number;
        }
        const auto [end, error] = std::from_chars(begin, stop, number.real);
        if (error != std::errc() || end != stop) fail("has '" + name + "', which is no number");
        constexpr double most = 9223372036854774784.0;
        number.integer =
            number.real == number.real ? std::int64_t(std::clamp(number.real, -most, most)) : 0;
        number.index = std::size_t(DType::f32);
        return number;
    }

    Instruction instruction() {
        const std::string name = word();
        Instruction made;
        expect('(');
        do made.operands.push_back(operand());
        while (accepts(','));
        expect(')');
        std::vector<ValueType> types;
        for (const Operand& given : made.operands) types.push_back(type_of(given));
        std::size_t takes = 1;
        const auto row = std::find_if(function_rows.begin(), function_rows.end(),
                                      [&](const FunctionRow& r) { return r.name == name; });
        if (row != function_rows.end()) {
            made.function = Function(row - function_rows.begin());
            takes = std::size_t(row->operands);
        }
        if (made.operands.size() != takes)
            fail("gives " + name + " " + std::to_string(made.operands.size()) + " operands, not " +
                 std::to_string(takes));
        if (made.function)
            set_types(made, *row, types);
        else
            set_conversion(made, name, types[0]);
        return made;
    }

    void set_conversion(Instruction& made, const std::string& name, ValueType from) const {
        for (DType known : dtypes)
            if (known != DType::bf16 && name == name_of(known)) {
                made.takes = {from.dtype};
                // A converted number is as good as an array without dimensions.
                made.type = {known, std::max(from.weight, Weight::scalar)};
                return;
            }
        fail("has '" + name + "', which is no function" +
             (name == name_of(DType::bf16) ? " of programs: 'reorder' converts to it" : ""));
    }

    void set_types(Instruction& made, const FunctionRow& row,
                   const std::vector<ValueType>& types) const {
        const std::size_t first = row.kind == Kind::select;
        ValueType common = types[first];
        for (std::size_t i = first + 1; i < types.size(); ++i) common = promoted(common, types[i]);
        if (row.kind == Kind::select) common.weight = std::max(common.weight, types[0].weight);
        if (row.kind == Kind::real && !is_real(common.dtype)) common.dtype = DType::f32;
        if (row.kind == Kind::bits && is_real(common.dtype))
            fail("gives " + std::string(row.name) + " operands that are " +
                 std::string(name_of(common.dtype)) + ", not integers");
        if (row.kind == Kind::logic) common.dtype = DType::boolean;
        made.takes.assign(types.size(), common.dtype);
        if (row.kind == Kind::select) made.takes[0] = DType::boolean;
        made.type = common;
        if (row.kind == Kind::compare || row.kind == Kind::test) made.type.dtype = DType::boolean;
    }

    const std::string& text_;
    std::size_t at_ = 0;
    std::vector<ValueType> inputs_;
    std::vector<Instruction> made_;
};

}  // namespace

Program::Program(const std::string& text, const std::vector<Spec>& inputs)
    : instructions(Parser(text, inputs).run()) {}

}  // namespace ai3
