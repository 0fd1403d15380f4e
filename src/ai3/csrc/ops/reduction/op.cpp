#include "ops/reduction/op.hpp"

#include <cmath>

#include "core/custom.hpp"
#include "core/shape.hpp"
#include "custom/amax.hpp"
#include "custom/mean.hpp"
#include "custom/sum.hpp"

namespace ai3 {

namespace {

using Dimensions = std::vector<ReductionProblem::Dimension>;

void add(Dimensions& dims, Index extent, Index stride) {
    if (extent == 1) return;
    if (!dims.empty() && stride == dims.back().extent * dims.back().stride)
        dims.back().extent *= extent;
    else
        dims.push_back({extent, stride});
}

}  // namespace

ReductionProblem::ReductionProblem(Reduction function, const std::vector<Spec>& inputs,
                                   const WeightSet& weights, const Attributes& attributes,
                                   int threads)
    : function(function), threads(threads) {
    const auto refuse = [&](const std::string& what) {
        throw std::invalid_argument(std::string(name_of(function)) + ": " + what);
    };
    if (inputs.size() != 1 || weights.size() != 0) refuse("takes one input and no weights");
    const Spec& input = inputs[0];
    dtype = input.dtype;
    const std::size_t rank = input.shape.size();
    std::vector<std::size_t> all(rank);
    for (std::size_t d = 0; d < rank; ++d) all[d] = d;
    std::vector<std::size_t> dims = all;
    if (rank > 0) dims = dimensions(name_of(function), attributes, "dim", rank, all);
    if (dims.empty()) dims = all;
    std::vector<bool> reduces(rank, false);
    for (std::size_t d : dims) reduces[d] = true;
    const bool keepdim = attributes.flag("keepdim", false);

    spec.dtype = dtype;
    n = 1;
    for (std::size_t d = 0; d < rank; ++d) {
        if (reduces[d]) n = checked_product(n, input.shape[d]);
        if (!reduces[d] || keepdim) spec.shape.push_back(reduces[d] ? 1 : input.shape[d]);
    }
    elements(input.shape);
    if (n == 0 && function == Reduction::amax)
        refuse("there is no largest of no elements, in the input " + to_string(input));

    // The dimensions in the order of memory.
    std::vector<std::pair<Index, bool>> held;
    for (std::size_t d = 0; d < rank; ++d) held.push_back({input.shape[d], reduces[d]});
    if (input.layout != Layout::dense) {
        const Index block = channel_block(dtype), C = input.shape[rank - 3];
        const bool blocked = input.layout == Layout::blocked;
        if (reduces[rank - 3] || (!keepdim && blocked && C % block != 0) ||
            (!keepdim && !(reduces[rank - 2] && reduces[rank - 1])))
            refuse("the input " + to_string(input) + " must be dense");
        if (keepdim) spec.layout = input.layout;
        held[rank - 3].first = blocked ? (C + block - 1) / block : 1;
        held.push_back({blocked ? block : C, false});
    }
    size = spec.held();
    Index stride = 1;
    for (std::size_t d = held.size(); d-- > 0; stride *= held[d].first)
        add(held[d].second ? reduced : kept, held[d].first, stride);
}

void ReductionProblem::reference(const void* const* inputs, const WeightSet&, void* output) const {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        const auto offset = [](const Dimensions& dims, Index i) {
            Index at = 0;
            for (const auto& [extent, stride] : dims) at += i % extent * stride, i /= extent;
            return at;
        };
        for (Index o = 0; o < size; ++o) {
            const T* x = static_cast<const T*>(inputs[0]) + offset(kept, o);
            double total = 0, most = n ? double(x[0]) : 0;
            for (Index i = 0; i < n; ++i) {
                const double value = double(x[offset(reduced, i)]);
                total += value;
                most = value > most || std::isnan(value) ? value : most;
            }
            static_cast<T*>(output)[o] = T(function == Reduction::mean  ? total / double(n)
                                           : function == Reduction::sum ? total
                                                                        : most);
        }
    });
}

namespace {
const ForEachReduction<OperationOf> operations;
AI3_REGISTER_CUSTOM(mean, ReductionOf<Reduction::mean>, 1, 0);
AI3_REGISTER_CUSTOM(sum, ReductionOf<Reduction::sum>, 1, 0);
AI3_REGISTER_CUSTOM(amax, ReductionOf<Reduction::amax>, 1, 0);
}  // namespace

}  // namespace ai3
