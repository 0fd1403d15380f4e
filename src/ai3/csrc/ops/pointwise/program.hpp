// A pointwise program: functions of numbers and of the elements of inputs that are broadcast.
//
//   mul(x0, 2); exp(t0); add(t1, x1)
//
// x0, x1, ... are the inputs, t0, t1, ... the results of the instructions; the last is the output.
// A number with a point or exponent, inf and nan are real, others integers; True and False are
// bool. A dtype's name is the function that converts to it. Types are promoted as torch does:
// among operands of one kind (arrays of some dimensions, of none, numbers) to the larger type; a
// lesser kind counts only where its type is of a higher category (bool, integer, real).
#pragma once

#include <optional>

#include "ops/pointwise/functions.hpp"

namespace ai3 {

// One value of a program: an input, the result of an instruction, or a number.
struct Operand {
    enum class From : std::uint8_t { input, result, number } from = From::number;
    std::size_t index = 0;
    double real = 0;
    std::int64_t integer = 0;
};

// How much a type says about the result's.
enum class Weight : std::uint8_t { number, scalar, array };

struct ValueType {
    DType dtype = DType::f32;
    Weight weight = Weight::number;
    bool operator==(const ValueType&) const = default;
};

struct Instruction {
    // A conversion where it is none.
    std::optional<Function> function;
    std::vector<Operand> operands;
    // What each operand is converted to first, and the result's type.
    std::vector<DType> takes;
    ValueType type;
};

struct Program {
    std::vector<Instruction> instructions;

    // Throws std::invalid_argument where the text is no program for `inputs`.
    Program(const std::string& text, const std::vector<Spec>& inputs);

    DType dtype() const { return instructions.back().type.dtype; }
};

}  // namespace ai3
