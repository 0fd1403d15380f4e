// Arithmetic of two arrays, element by element, the shapes broadcast as in numpy:
// add a + alpha * b, sub a - alpha * b, mul a * b, div a / b. Images as Broadcast takes them.
#pragma once

#include "core/operation.hpp"

namespace ai3 {

enum class Arithmetic : std::uint8_t { add, sub, mul, div };

constexpr std::string_view name_of(Arithmetic function) {
    return function == Arithmetic::add   ? "add"
           : function == Arithmetic::sub ? "sub"
           : function == Arithmetic::mul ? "mul"
                                         : "div";
}

struct ArithmeticProblem {
    static constexpr bool takes_layouts = true;
    static constexpr bool takes_bfloat16 = true;

    ArithmeticProblem(Arithmetic function, const std::vector<Spec>& inputs,
                      const WeightSet& weights, const Attributes& attributes, int threads);

    Spec output() const { return spec; }
    void reference(const void* const* inputs, const WeightSet& weights, void* output) const;

    Arithmetic function;
    DType dtype;
    Spec spec;
    // The output as it lies in memory, and between neighbours along each of these dimensions the
    // elements in the inputs: 0 where an input is repeated.
    Shape shape, a_strides, b_strides;
    Index size;
    // With the sign of sub.
    double alpha;
    int threads;
};

// Attributes: alpha of add and sub.
template <Arithmetic F>
struct ArithmeticOf : ArithmeticProblem {
    static constexpr std::string_view op = name_of(F);

    ArithmeticOf(const std::vector<Spec>& inputs, const WeightSet& weights,
                 const Attributes& attributes, int threads)
        : ArithmeticProblem(F, inputs, weights, attributes, threads) {}

    static std::string_view choose(const ArithmeticOf&) { return "direct"; }
};

// A Member<ArithmeticOf<F>> for each of the operations.
template <template <typename> typename Member>
struct ForEachArithmetic {
    Member<ArithmeticOf<Arithmetic::add>> add;
    Member<ArithmeticOf<Arithmetic::sub>> sub;
    Member<ArithmeticOf<Arithmetic::mul>> mul;
    Member<ArithmeticOf<Arithmetic::div>> div;
};

}  // namespace ai3
