#include "ops/along/op.hpp"

#include <algorithm>
#include <numeric>

#include "core/shape.hpp"

namespace ai3 {

LineProblem::LineProblem(Line function, const std::vector<Spec>& inputs, const WeightSet& weights,
                         const Attributes& attributes, int threads)
    : function(function), descending(attributes.flag("descending", false)), threads(threads) {
    const auto refuse = [&](const std::string& what) {
        throw std::invalid_argument(std::string(name_of(function)) + ": " + what);
    };
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    Shape shape = inputs[0].shape;
    dtype = inputs[0].dtype;
    const bool all = !attributes.has("dim"), keeps = attributes.flag("keepdim", false);
    const Shape ones(shape.size(), 1);
    if (all && !gives_one() && shape.size() > 1) refuse("takes the dimension along which it goes");
    if (all || shape.empty()) shape = {elements(shape)};
    const std::size_t dim =
        all ? 0 : dimension(name_of(function), "dim", attributes.integer("dim", 0), shape.size());
    extent = shape[dim];
    outer = elements({shape.begin(), shape.begin() + Index(dim)});
    inner = elements({shape.begin() + Index(dim) + 1, shape.end()});
    const bool places = function == Line::argmax || function == Line::argmin;
    if (places && extent == 0 && outer * inner > 0)
        refuse("there is no largest or smallest of no elements, in the input " +
               to_string(inputs[0]));
    if (gives_one()) {
        shape[dim] = 1;
        if (!keeps) shape.erase(shape.begin() + Index(dim));
        if (all && keeps) shape = ones;
    } else {
        shape = inputs[0].shape;
    }
    // Sums and products of integers and bool are int64.
    const bool counts =
        function == Line::prod || function == Line::cumsum || function == Line::cumprod;
    const bool indices = places || function == Line::argsort;
    spec = {indices || (counts && !is_real(dtype)) ? DType::i64 : dtype, shape};
}

void LineProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_value(dtype, [&](auto zero) {
        using T = decltype(zero);
        using Sum = std::conditional_t<std::is_floating_point_v<T>, double, std::int64_t>;
        const Index given = gives_one() ? 1 : extent;
        for (Index line = 0; line < outer * inner; ++line) {
            const Index first = line / inner * extent * inner + line % inner;
            const Index start = line / inner * given * inner + line % inner;
            const auto at = [&](Index i) {
                return static_cast<const T*>(inputs[0])[first + i * inner];
            };
            const auto put = [&](Index i, auto value) {
                with_value(spec.dtype, [&](auto kind) {
                    using R = decltype(kind);
                    static_cast<R*>(output)[start + i * inner] = R(value);
                });
            };
            std::vector<Index> order(static_cast<std::size_t>(extent));
            std::iota(order.begin(), order.end(), Index{0});
            std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
                const bool down = descending || function == Line::argmax;
                if (function == Line::argmin && (at(a) != at(a)) != (at(b) != at(b)))
                    return at(a) != at(a);
                return down ? before(at(b), at(a)) : before(at(a), at(b));
            });
            Sum total = function != Line::cumsum;
            switch (function) {
                case Line::argmax:
                case Line::argmin:
                    put(0, order[0]);
                    break;
                case Line::prod:
                    for (Index i = 0; i < extent; ++i) total *= Sum(at(i));
                    put(0, total);
                    break;
                case Line::cumsum:
                    for (Index i = 0; i < extent; ++i) put(i, total += Sum(at(i)));
                    break;
                case Line::cumprod:
                    for (Index i = 0; i < extent; ++i) put(i, total *= Sum(at(i)));
                    break;
                case Line::sort:
                    for (Index i = 0; i < extent; ++i) put(i, at(order[std::size_t(i)]));
                    break;
                case Line::argsort:
                    for (Index i = 0; i < extent; ++i) put(i, order[std::size_t(i)]);
                    break;
            }
        }
    });
}

namespace {
const ForEachLine<OperationOf> operations;
}  // namespace

}  // namespace ai3
