#include "ops/arithmetic/op.hpp"

#include "core/custom.hpp"
#include "custom/add.hpp"
#include "custom/div.hpp"
#include "custom/mul.hpp"
#include "custom/sub.hpp"
#include "kernels/broadcast.hpp"

namespace ai3 {

ArithmeticProblem::ArithmeticProblem(Arithmetic function, const std::vector<Spec>& inputs,
                                     const WeightSet& weights, const Attributes& attributes,
                                     int threads)
    : function(function), threads(threads) {
    const auto refuse = [&](const std::string& what) {
        throw std::invalid_argument(std::string(name_of(function)) + ": " + what);
    };
    if (inputs.size() != 2 || weights.size() != 0) refuse("takes two inputs and no weights");
    dtype = inputs[0].dtype;
    if (inputs[1].dtype != dtype)
        refuse("both inputs must have one dtype, not " + to_string(inputs[0]) + " and " +
               to_string(inputs[1]));
    alpha = function == Arithmetic::add   ? attributes.real("alpha", 1)
            : function == Arithmetic::sub ? -attributes.real("alpha", 1)
                                          : 1;
    Broadcast broadcast(name_of(function), inputs);
    spec = {dtype, broadcast.shape, broadcast.layout};
    if (function == Arithmetic::div && !whole_blocks(spec))
        // What fills up the last block might be divided by zero.
        refuse("the input " + to_string(inputs[broadcast.other]) + " must be dense");
    size = spec.held();
    if (size == 0) return;
    shape = std::move(broadcast.held);
    a_strides = std::move(broadcast.strides[0]);
    b_strides = std::move(broadcast.strides[1]);
}

void ArithmeticProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const T* a = static_cast<const T*>(inputs[0]);
        const T* b = static_cast<const T*>(inputs[1]);
        T* out = static_cast<T*>(output);
        for (Index i = 0; i < size; ++i) {
            Index at_a = 0, at_b = 0, rest = i;
            for (std::size_t dim = shape.size(); dim-- > 0; rest /= shape[dim]) {
                at_a += rest % shape[dim] * a_strides[dim];
                at_b += rest % shape[dim] * b_strides[dim];
            }
            const double x = double(a[at_a]), y = double(b[at_b]);
            out[i] = T(function == Arithmetic::mul   ? x * y
                       : function == Arithmetic::div ? x / y
                                                     : x + alpha * y);
        }
    });
}

namespace {
const ForEachArithmetic<OperationOf> operations;
AI3_REGISTER_CUSTOM(add, ArithmeticOf<Arithmetic::add>, 2, 0);
AI3_REGISTER_CUSTOM(sub, ArithmeticOf<Arithmetic::sub>, 2, 0);
AI3_REGISTER_CUSTOM(mul, ArithmeticOf<Arithmetic::mul>, 2, 0);
AI3_REGISTER_CUSTOM(div, ArithmeticOf<Arithmetic::div>, 2, 0);
}  // namespace

}  // namespace ai3
