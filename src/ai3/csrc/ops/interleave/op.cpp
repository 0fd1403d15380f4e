#include "ops/interleave/op.hpp"

#include "core/shape.hpp"

namespace ai3 {

namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw std::invalid_argument("interleave: " + what);
}

}  // namespace

Interleave::Interleave(const std::vector<Spec>& given, const WeightSet& weights,
                       const Attributes& attributes, int threads)
    : inputs(Index(given.size())), threads(threads) {
    if (given.empty() || weights.size() != 0) refuse("takes inputs and no weights");
    dtype = given[0].dtype, shape = given[0].shape, layout = given[0].layout;
    for (const Spec& input : given)
        if (input != given[0])
            refuse("inputs must be alike, not " + to_string(given[0]) + " and " + to_string(input));
    const std::size_t along = dimension(op, "dim", attributes.integer("dim", 0), shape.size());
    if (layout == Layout::channels_last || (layout == Layout::blocked && along + 3 != shape.size()))
        refuse("the input " + to_string(given[0]) + " must be dense to be taken in turns along " +
               "dimension " + std::to_string(along));
    extent = shape[along];
    Index whole;
    if (__builtin_mul_overflow(extent, inputs, &whole))
        refuse("the number of elements overflows 64 bits");
    start = attributes.integer("start", 0), end = attributes.integer("end", whole);
    if (start < 0 || end < start || end > whole)
        refuse("start and end must be within 0 and " + std::to_string(whole) + ", not " +
               std::to_string(start) + " and " + std::to_string(end));
    outer = elements({shape.begin(), shape.begin() + Index(along)});
    inner = elements({shape.begin() + Index(along) + 1, shape.end()});
    shape[along] = end - start;
    elements(shape);
}

void Interleave::reference(const void* const* given, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* out = static_cast<T*>(output);
        for (Index o = 0; o < outer; ++o)
            for (Index c = start; c < end; ++c)
                for (Index i = 0; i < inner; ++i)
                    *out++ = static_cast<const T*>(
                        given[c % inputs])[(o * extent + c / inputs) * inner + i];
    });
}

namespace {
const OperationOf<Interleave> operation;
}  // namespace

}  // namespace ai3
