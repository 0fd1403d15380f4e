// Cheap functions of one real type, each of what the one before gave: a few vectors at a time stay
// in registers while they go through all of them.
#pragma once

#include <vector>

#include "core/tensor.hpp"
#include "ops/pointwise/functions.hpp"

namespace ai3 {

// What a function takes beside the value that goes through the chain: nothing, or another operand,
// which is the same number for all elements or an array; where that comes first, it is `before`.
enum class Beside : std::uint8_t { nothing, number, array, number_before, array_before };

// A function of a chain, or the order to write what the value is by then to a further result.
struct Link {
    static constexpr int kinds = 5;
    static constexpr std::uint16_t keep = std::uint16_t(function_rows.size() * kinds);

    Link() : code(keep) {}
    constexpr Link(Function function, Beside beside)
        : code(std::uint16_t(int(function) * kinds + int(beside))) {}

    std::uint16_t code;
};

// Of n elements. `operands` are the value at first and then what the links take beside it,
// `results` what they keep and then the value at last.
using Chain = void (*)(const std::vector<Link>& links, const void* const* operands,
                       void* const* results, Index n);

// What computes chains of float32 or float64.
Chain chain_of(DType dtype);

}  // namespace ai3
