#include "ops/pointwise/op.hpp"

#include <algorithm>
#include <bit>

#include "core/mixed.hpp"
#include "kernels/broadcast.hpp"

namespace ai3 {

Pointwise::Pointwise(const std::vector<Spec>& inputs, const WeightSet& weights,
                     const Attributes& attributes, int threads)
    : program(attributes.text("program", ""), widened(inputs)), threads(threads) {
    if (inputs.empty() || weights.size() != 0)
        throw std::invalid_argument("pointwise: takes inputs, at least one, and no weights");
    Broadcast broadcast(op, inputs);
    for (const Spec& input : inputs) dtypes.push_back(input.dtype);
    spec = {program.dtype(), broadcast.shape, broadcast.layout};
    const auto has = [&](DType dtype) {
        return std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end();
    };
    if (spec.dtype == DType::f32 && has(DType::bf16) && !has(DType::f32)) spec.dtype = DType::bf16;
    if (spec.layout != Layout::dense) {
        bool fits = whole_blocks(spec);
        for (DType dtype : dtypes) fits = fits && dtype == spec.dtype;
        if (!fits) throw std::invalid_argument("pointwise: the inputs must be dense");
    }
    size = spec.held();
    held = std::move(broadcast.held);
    strides = std::move(broadcast.strides);
}

namespace {

// A value as the reference computes with it: reals in double, integers and bool in 64 bits.
struct Number {
    double real = 0;
    std::int64_t integer = 0;
};

Number read(DType dtype, const void* from, Index at) {
    return with_value(dtype, [&](auto zero) -> Number {
        const auto value = static_cast<const decltype(zero)*>(from)[at];
        return {double(value), is_real(dtype) ? 0 : std::int64_t(value)};
    });
}

void write(DType dtype, Number number, void* to, Index at) {
    with_value(dtype, [&](auto zero) {
        using T = decltype(zero);
        static_cast<T*>(to)[at] = is_real(dtype) ? T(number.real) : T(number.integer);
    });
}

Number converted(Number number, DType from, DType to) {
    const bool real = is_real(from);
    switch (to) {
        case DType::f32:
            return {double(float(real ? number.real : double(number.integer))), 0};
        case DType::f64:
            return {real ? number.real : double(number.integer), 0};
        case DType::boolean:
            number.integer = real ? number.real != 0 : number.integer != 0;
            break;
        default: {
            constexpr double most = 9223372036854774784.0;
            if (real)
                number.integer = number.real >= -most && number.real <= most
                                     ? std::int64_t(number.real)
                                     : std::numeric_limits<std::int64_t>::min();
            if (to == DType::i32) number.integer = std::int32_t(number.integer);
            if (to == DType::u8) number.integer = std::uint8_t(number.integer);
        }
    }
    number.real = double(number.integer);
    return number;
}

template <Function F>
Number evaluate(DType dtype, const Number* v) {
    constexpr Kind kind = function_rows[std::size_t(F)].kind;
    const auto integers = [&]<typename T>(T) {
        std::int64_t result = 0;
        if constexpr (kind == Kind::select)
            result = formula<F, T>(v[0].integer != 0, T(v[1].integer), T(v[2].integer));
        else
            result = formula<F, T>(T(v[0].integer), T(v[1].integer), T(v[2].integer));
        return Number{double(result), result};
    };
    if constexpr (kind == Kind::logic) return integers(std::uint8_t{});
    if constexpr (kind == Kind::bits)
        return dtype == DType::boolean ? integers(std::uint8_t{}) : integers(std::int64_t{});
    if constexpr (kind == Kind::compare || kind == Kind::test || kind == Kind::same ||
                  kind == Kind::select)
        if (!is_real(dtype)) return integers(std::int64_t{});
    if constexpr (kind != Kind::logic && kind != Kind::bits) {
        const auto x = [&] {
            if constexpr (kind == Kind::select)
                return std::uint8_t(v[0].integer != 0);
            else
                return v[0].real;
        }();
        const auto result = formula<F, double>(x, v[1].real, v[2].real);
        return {double(result),
                std::int64_t(kind == Kind::compare || kind == Kind::test ? result : 0)};
    }
}

using Evaluate = Number (*)(DType, const Number*);
#define AI3_ROW(name, operands, kind, value) evaluate<Function::name##_>,
constexpr Evaluate evaluations[] = {AI3_POINTWISE_FUNCTIONS(AI3_ROW)};
#undef AI3_ROW

}  // namespace

void Pointwise::reference(const void* const* inputs, const WeightSet&, void* output) const {
    std::vector<Number> values(program.instructions.size());
    for (Index i = 0; i < size; ++i) {
        std::size_t k = 0;
        for (const Instruction& step : program.instructions) {
            Number given[3];
            for (std::size_t o = 0; o < step.operands.size(); ++o) {
                const Operand& operand = step.operands[o];
                DType from = DType(operand.index);
                if (operand.from == Operand::From::result) {
                    given[o] = values[operand.index];
                    from = program.instructions[operand.index].type.dtype;
                } else if (operand.from == Operand::From::input) {
                    Index at = 0, rest = i;
                    for (std::size_t d = held.size(); d-- > 0; rest /= held[d])
                        at += rest % held[d] * strides[operand.index][d];
                    from = dtypes[operand.index];
                    given[o] = read(from, inputs[operand.index], at);
                } else {
                    given[o] = {operand.real, operand.integer};
                    if (step.takes[o] == DType::f32) from = DType::f64;
                }
                // What is computed in double is not rounded on its way.
                const bool stays = is_real(from) && is_real(step.takes[o]);
                if (!stays) given[o] = converted(given[o], from, step.takes[o]);
            }
            Number result = given[0];
            if (step.function)
                result = evaluations[std::size_t(*step.function)](step.takes.back(), given);
            const DType type = step.type.dtype;
            const DType computed = !step.function  ? step.takes[0]
                                   : is_real(type) ? DType::f64
                                                   : DType::i64;
            if (!is_real(type) || !is_real(computed) || !step.function)
                result = converted(result, computed, type);
            values[k++] = result;
        }
        write(spec.dtype, values.back(), output, i);
    }
}

namespace {
const OperationOf<Pointwise> operation;
}  // namespace

}  // namespace ai3
